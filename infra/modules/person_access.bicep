// What a person may do: load photos and metadata, submit pipelines, and bring their outputs back.
@description('Object id of the person, of a group, or of the identity of a CI.')
param principalId string
param imagesName string
param storeName string
param workspaceName string
param cosmosName string
param database string

var roles = loadJsonContent('../roles.json')
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource images 'Microsoft.Storage/storageAccounts@2023-05-01' existing = { name: imagesName }
resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: images
  name: 'default'
}
resource photos 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  parent: blobs
  name: 'photos'
}
resource store 'Microsoft.Storage/storageAccounts@2023-05-01' existing = { name: storeName }
resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' existing = { name: workspaceName }

resource photosContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: photos
  name: guid(photos.id, principalId, roles['Storage Blob Data Contributor'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Data Contributor'])
    principalId: principalId
  }
}

resource storeContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: store
  name: guid(store.id, principalId, roles['Storage Blob Data Contributor'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Data Contributor'])
    principalId: principalId
  }
}

resource scientist 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: workspace
  name: guid(workspace.id, principalId, roles['AzureML Data Scientist'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['AzureML Data Scientist'])
    principalId: principalId
  }
}

module metadata 'metadata_access.bicep' = {
  name: 'person-metadata-${uniqueString(principalId)}'
  params: {
    principalId: principalId
    cosmosName: cosmosName
    database: database
    role: 'Cosmos DB Built-in Data Contributor'
  }
}
