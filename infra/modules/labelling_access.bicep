// What steps also need where people label photos in Label Studio: to read its token, and to sign addresses of photos.
@description('Object id of the identity that steps run under.')
param principalId string
param imagesName string
param vaultName string

@description('The secret with Label Studio\'s token, which a person has put into the vault.')
param secretName string

var roles = loadJsonContent('../roles.json')
var definitions = 'Microsoft.Authorization/roleDefinitions'

resource images 'Microsoft.Storage/storageAccounts@2023-05-01' existing = { name: imagesName }
resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = { name: vaultName }
resource token 'Microsoft.KeyVault/vaults/secrets@2023-07-01' existing = {
  parent: vault
  name: secretName
}

// On the one secret: the workspace's own are in the same vault.
resource tokenReader 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: token
  name: guid(token.id, principalId, roles['Key Vault Secrets User'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Key Vault Secrets User'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}

// On the account, since the service makes such keys for accounts only. What a key signs opens no more than its owner may.
resource signer 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: images
  name: guid(images.id, principalId, roles['Storage Blob Delegator'])
  properties: {
    roleDefinitionId: subscriptionResourceId(definitions, roles['Storage Blob Delegator'])
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
