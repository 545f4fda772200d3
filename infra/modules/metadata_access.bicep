// Cosmos DB's roles for data are its own, apart from those of Azure. A built-in role on one database is for documents.
// A client begins by reading what the account is and which databases it has; a role of ours on the account allows that
// and nothing else.
@description('Object id of whoever gets access.')
param principalId string
param cosmosName string
param database string

@description('Built-in role, by its name in roles.json.')
@allowed(['Cosmos DB Built-in Data Reader', 'Cosmos DB Built-in Data Contributor'])
param role string

var roles = loadJsonContent('../roles.json')

resource cosmos 'Microsoft.DocumentDB/databaseAccounts@2024-11-15' existing = { name: cosmosName }

resource openingRole 'Microsoft.DocumentDB/databaseAccounts/sqlRoleDefinitions@2024-11-15' = {
  parent: cosmos
  name: guid(cosmos.id, 'open the account')
  properties: {
    roleName: 'Open the account'
    type: 'CustomRole'
    assignableScopes: [cosmos.id]
    permissions: [
      { dataActions: ['Microsoft.DocumentDB/databaseAccounts/readMetadata'] }
    ]
  }
}

resource opening 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2024-11-15' = {
  parent: cosmos
  name: guid(cosmos.id, principalId, 'open the account')
  properties: {
    roleDefinitionId: openingRole.id
    principalId: principalId
    scope: cosmos.id
  }
}

resource documents 'Microsoft.DocumentDB/databaseAccounts/sqlRoleAssignments@2024-11-15' = {
  parent: cosmos
  name: guid(cosmos.id, database, principalId, role)
  properties: {
    roleDefinitionId: '${cosmos.id}/sqlRoleDefinitions/${roles[role]}'
    principalId: principalId
    scope: '${cosmos.id}/dbs/${database}'
  }
  dependsOn: [opening]
}
