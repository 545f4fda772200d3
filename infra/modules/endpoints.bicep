// Private endpoints of everything that steps and people reach, and the DNS zones by which their names lead there.
param name string
param location string
param tags object
param networkId string
param subnetId string
param imagesId string
param storeId string
param vaultId string
param registryId string
param cosmosId string
param workspaceId string

var suffix = environment().suffixes.storage
var blobZone = 'privatelink.blob.${suffix}'
var fileZone = 'privatelink.file.${suffix}'
var vaultZone = 'privatelink.vaultcore.azure.net'
var registryZone = 'privatelink.azurecr.io'
var cosmosZone = 'privatelink.documents.azure.com'
var workspaceZone = 'privatelink.api.azureml.ms'
var notebooksZone = 'privatelink.notebooks.azure.net'
var zones = [blobZone, fileZone, vaultZone, registryZone, cosmosZone, workspaceZone, notebooksZone]
// group: what the service calls the part of it that is reached.
var targets = [
  { name: 'images', id: imagesId, group: 'blob', zones: [blobZone] }
  { name: 'store-blob', id: storeId, group: 'blob', zones: [blobZone] }
  { name: 'store-file', id: storeId, group: 'file', zones: [fileZone] }
  { name: 'vault', id: vaultId, group: 'vault', zones: [vaultZone] }
  { name: 'registry', id: registryId, group: 'registry', zones: [registryZone] }
  { name: 'cosmos', id: cosmosId, group: 'Sql', zones: [cosmosZone] }
  { name: 'workspace', id: workspaceId, group: 'amlworkspace', zones: [workspaceZone, notebooksZone] }
]

resource zone 'Microsoft.Network/privateDnsZones@2020-06-01' = [
  for each in zones: {
    name: each
    location: 'global'
    tags: tags
  }
]

resource link 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [
  for (each, i) in zones: {
    parent: zone[i]
    name: 'vnet-${name}'
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      virtualNetwork: { id: networkId }
    }
  }
]

resource endpoint 'Microsoft.Network/privateEndpoints@2024-01-01' = [
  for target in targets: {
    name: 'pe-${name}-${target.name}'
    location: location
    tags: tags
    properties: {
      subnet: { id: subnetId }
      privateLinkServiceConnections: [
        {
          name: target.name
          properties: {
            privateLinkServiceId: target.id
            groupIds: [target.group]
          }
        }
      ]
    }
  }
]

resource names 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-01-01' = [
  for (target, i) in targets: {
    parent: endpoint[i]
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [for zoneName in target.zones: {
        name: replace(zoneName, '.', '-')
        properties: { privateDnsZoneId: resourceId('Microsoft.Network/privateDnsZones', zoneName) }
      }]
    }
    dependsOn: [zone]
  }
]
