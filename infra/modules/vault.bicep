// The key vault that a workspace can't be without. No deployment puts anything into it; a person puts Label Studio's token.
param name string
param location string
param tags object

@minValue(7)
@maxValue(90)
param retentionDays int

@description('Log Analytics workspace that takes the audit log.')
param logsId string

@description('Whether the internet leads here, too.')
@allowed(['Disabled', 'Enabled'])
param publicNetworkAccess string = 'Disabled'

@description('What becomes of requests that come from nowhere named.')
@allowed(['Deny', 'Allow'])
param defaultAction string = 'Deny'

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enablePurgeProtection: true
    enableSoftDelete: true
    softDeleteRetentionInDays: retentionDays
    publicNetworkAccess: publicNetworkAccess
    networkAcls: {
      bypass: 'AzureServices' // among them the workspace
      defaultAction: defaultAction
    }
  }
}

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'audit'
  properties: {
    workspaceId: logsId
    logs: [{ categoryGroup: 'audit', enabled: true }]
  }
}

output id string = vault.id
output name string = vault.name
output uri string = vault.properties.vaultUri
