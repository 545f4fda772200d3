// The Azure ML workspace, and its identity's role in it.
param name string
param location string
param tags object

@description('The workspace identity: resource id and object id.')
param identityId string
param principalId string
param storeId string
param vaultId string
param registryId string
param insightsId string

@description('Cluster that builds images; empty where the registry does it itself.')
param imageBuildCompute string

@description('Whether the internet leads here, too.')
@allowed(['Disabled', 'Enabled'])
param publicNetworkAccess string = 'Disabled'

var roles = loadJsonContent('../roles.json')
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' = {
  // checkov:skip=CKV_AZURE_243:means a network that Azure ML manages; ours is in network.bicep and endpoints.bicep
  name: name
  location: location
  tags: tags
  kind: 'Default'
  sku: { name: 'Basic', tier: 'Basic' }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    friendlyName: name
    primaryUserAssignedIdentity: identityId
    storageAccount: storeId
    keyVault: vaultId
    containerRegistry: registryId
    applicationInsights: insightsId
    systemDatastoresAuthMode: 'Identity'
    imageBuildCompute: empty(imageBuildCompute) ? null : imageBuildCompute
    publicNetworkAccess: publicNetworkAccess
    v1LegacyMode: false
  }
}

resource own 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: workspace
  name: guid(workspace.id, principalId, roles.Contributor)
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles.Contributor)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

output id string = workspace.id
output name string = workspace.name
