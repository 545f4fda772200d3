// What a person may do with photos and their metadata: read and write them.
@description('Object id of the person, or of a group.')
param principalId string
param imagesName string
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

resource photosContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: photos
  name: guid(photos.id, principalId, roles['Storage Blob Data Contributor'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Data Contributor'])
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
