// A storage account for blobs, which takes no key.
param name string
param location string
param tags object
param sku string = 'Standard_ZRS'

@description('Blob containers to make.')
param containers array

@minValue(7)
param retentionDays int

@description('Origins of web pages that may show blobs, such as https://labels.example.com; a signature it takes all the same.')
param pages array = []

@description('Whether the internet leads here, too.')
@allowed(['Disabled', 'Enabled'])
param publicNetworkAccess string = 'Disabled'

@description('What becomes of requests that come from nowhere named.')
@allowed(['Deny', 'Allow'])
param defaultAction string = 'Deny'

var showing = {
  allowedOrigins: pages
  allowedMethods: ['GET', 'HEAD']
  allowedHeaders: ['*']
  exposedHeaders: ['*']
  maxAgeInSeconds: 3600
}

resource account 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  // checkov:skip=CKV_AZURE_206:three zones hold copies; a second region is for the owner of the photos to choose
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: sku }
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: publicNetworkAccess
    networkAcls: {
      bypass: 'AzureServices' // among them the workspace
      defaultAction: defaultAction
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    cors: { corsRules: empty(pages) ? [] : [showing] }
    isVersioningEnabled: true
    deleteRetentionPolicy: { enabled: true, days: retentionDays }
    containerDeleteRetentionPolicy: { enabled: true, days: retentionDays }
  }
}

// Without this every version of every blob would be kept, and paid for, for ever.
resource lifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: account
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'remove-old-versions'
          enabled: true
          type: 'Lifecycle'
          definition: {
            filters: { blobTypes: ['blockBlob'] }
            actions: {
              version: { delete: { daysAfterCreationGreaterThan: retentionDays } }
            }
          }
        }
      ]
    }
  }
  dependsOn: [blobs]
}

resource container 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = [
  for each in containers: {
    parent: blobs
    name: each
    properties: { publicAccess: 'None' }
  }
]

output id string = account.id
output name string = account.name
output blobEndpoint string = account.properties.primaryEndpoints.blob
