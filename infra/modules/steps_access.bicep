// What a step may do: read photos and their metadata, write its outputs, pull its image, log and register models.
@description('Object id of the identity that steps run under.')
param principalId string
param imagesName string
param storeName string
param registryName string
param workspaceName string
param cosmosName string
param database string

@description('Whether steps write labels into documents (sync_labels), where they else only read them.')
param writesLabels bool

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
resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = { name: registryName }
resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' existing = { name: workspaceName }

resource photosReader 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: photos
  name: guid(photos.id, principalId, roles['Storage Blob Data Reader'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Data Reader'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

// On the account, since the service makes the containers of outputs and artefacts itself.
resource storeContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: store
  name: guid(store.id, principalId, roles['Storage Blob Data Contributor'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Data Contributor'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

resource imagePuller 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: registry
  name: guid(registry.id, principalId, roles.AcrPull)
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles.AcrPull)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

// The least built-in role that registers models. It can make no clusters and change no workspace.
resource modelRegistrar 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: workspace
  name: guid(workspace.id, principalId, roles['AzureML Data Scientist'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['AzureML Data Scientist'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

module metadata 'metadata_access.bicep' = {
  name: 'steps-metadata'
  params: {
    principalId: principalId
    cosmosName: cosmosName
    database: database
    // connect_db only asks; the label filter is there already
    role: writesLabels ? 'Cosmos DB Built-in Data Contributor' : 'Cosmos DB Built-in Data Reader'
  }
}
