// The registry of the images that steps run in. The workspace builds them from environments/ on first use.
param name string
param location string
param tags object

@description('Whether the internet leads here, too.')
@allowed(['Disabled', 'Enabled'])
param publicNetworkAccess string = 'Disabled'

@description('Tier; only the dearest can have a private endpoint.')
@allowed(['Basic', 'Premium'])
param tier string = 'Premium'

resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' = {
  // checkov:skip=CKV_AZURE_166:nothing here would release a new image from quarantine, and no step could start
  name: name
  location: location
  tags: tags
  sku: { name: tier }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    publicNetworkAccess: publicNetworkAccess
    networkRuleBypassOptions: 'AzureServices' // among them the workspace
  }
}

output id string = registry.id
output name string = registry.name
