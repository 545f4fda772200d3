// What whoever submits pipelines may do: write code and read outputs in the workspace's store, and submit. No photos.
@description('Object id of a person, of a group, or of the identity of a CI.')
param principalId string
param storeName string
param workspaceName string

var roles = loadJsonContent('../roles.json')
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource store 'Microsoft.Storage/storageAccounts@2023-05-01' existing = { name: storeName }
resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' existing = { name: workspaceName }

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
