// What the cluster that builds images may do: read their recipes, and push them.
@description('Object id of the identity that images are built under.')
param principalId string
param storeName string
param registryName string

var roles = loadJsonContent('../roles.json')
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource store 'Microsoft.Storage/storageAccounts@2023-05-01' existing = { name: storeName }
resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = { name: registryName }

resource recipes 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: store
  name: guid(store.id, principalId, roles['Storage Blob Data Contributor'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Data Contributor'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

resource imagePusher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: registry
  name: guid(registry.id, principalId, roles.AcrPush)
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles.AcrPush)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
