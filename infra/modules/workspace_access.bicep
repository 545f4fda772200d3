// What the workspace's own identity may do with the resources that the workspace is made of. A system-assigned identity
// would be given all of it, and more, on the whole resource group by the service itself.
@description('Object id of the workspace identity.')
param principalId string
param storeName string
param vaultName string
param registryName string
param insightsName string

var roles = loadJsonContent('../roles.json')
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource store 'Microsoft.Storage/storageAccounts@2023-05-01' existing = { name: storeName }
resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = { name: vaultName }
resource registry 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = { name: registryName }
resource insights 'Microsoft.Insights/components@2020-02-02' existing = { name: insightsName }

resource storeContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: store
  name: guid(store.id, principalId, roles.Contributor)
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles.Contributor)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

resource storeData 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: store
  name: guid(store.id, principalId, roles['Storage Blob Data Contributor'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Data Contributor'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

resource vaultContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, principalId, roles.Contributor)
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles.Contributor)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

resource vaultSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, principalId, roles['Key Vault Administrator'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Key Vault Administrator'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

resource registryContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: registry
  name: guid(registry.id, principalId, roles.Contributor)
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles.Contributor)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

resource insightsContributor 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, principalId, roles.Contributor)
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles.Contributor)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
