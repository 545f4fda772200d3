// The metadata: an account that takes no key, a database, and for each collection a container with the label filter.
// Signed in by identity nobody may make containers or functions, so all of them come from here.
param name string
param location string
param tags object
param database string
param collections array

@description('Whether the internet leads here, too.')
@allowed(['Disabled', 'Enabled'])
param publicNetworkAccess string = 'Disabled'

var labelFilter = 'filterDocumentsByLabels'

resource account 'Microsoft.DocumentDB/databaseAccounts@2024-11-15' = {
  name: name
  location: location
  tags: tags
  kind: 'GlobalDocumentDB'
  properties: {
    databaseAccountOfferType: 'Standard'
    capabilities: [{ name: 'EnableServerless' }] // costs nothing but storage while nobody asks
    enableMultipleWriteLocations: false
    locations: [{ locationName: location, failoverPriority: 0, isZoneRedundant: false }]
    consistencyPolicy: { defaultConsistencyLevel: 'Session' }
    backupPolicy: { type: 'Continuous', continuousModeProperties: { tier: 'Continuous7Days' } }
    disableLocalAuth: true
    disableKeyBasedMetadataWriteAccess: true
    minimalTlsVersion: 'Tls12'
    publicNetworkAccess: publicNetworkAccess
  }
}

resource sqlDatabase 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases@2024-11-15' = {
  parent: account
  name: database
  properties: {
    resource: { id: database }
  }
}

resource container 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers@2024-11-15' = [
  for each in collections: {
    parent: sqlDatabase
    name: each
    properties: {
      resource: {
        id: each
        partitionKey: { paths: ['/id'], kind: 'Hash', version: 2 }
      }
    }
  }
]

resource udf 'Microsoft.DocumentDB/databaseAccounts/sqlDatabases/containers/userDefinedFunctions@2024-11-15' = [
  for (each, i) in collections: {
    parent: container[i]
    name: labelFilter
    properties: {
      resource: {
        id: labelFilter
        body: loadTextContent('../../src/sparsight/stores/filter_documents_by_labels.js')
      }
    }
  }
]

output id string = account.id
output name string = account.name
output endpoint string = account.properties.documentEndpoint
