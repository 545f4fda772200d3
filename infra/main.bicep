// Everything that Sparsight's pipelines need in a subscription, in one resource group. docs/azure.md walks through it.
// No key, password or connection string is made, read or put out: whoever reaches a store does so by identity.
targetScope = 'resourceGroup'

@description('Goes into the name of every resource: lower-case letters and digits, beginning with a letter.')
@minLength(3)
@maxLength(10)
param name string

@description('Azure region of all resources; the GPU quota counts there.')
param location string = resourceGroup().location

@description('Object ids of the people who load photos and submit pipelines.')
param people array = []

@description('Object ids of others who submit pipelines but open no photo, such as the identity of a CI.')
param submitters array = []

@description('Cosmos DB containers, one for each collection of photos. Nobody but a deployment can make another.')
@minLength(1)
param collections array = ['photos']

@description('Cosmos DB database.')
param database string = 'sparsight'

@description('Whether stores and workspace are reached from a virtual network only.')
param privateNetworking bool = true

@description('Address range of the clusters: a node takes one address.')
param computePrefix string = '10.20.0.0/24'

@description('Address range of the private endpoints: they take about 20 addresses.')
param endpointsPrefix string = '10.20.1.0/24'

@description('Replication of both storage accounts.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GZRS'])
param storageSku string = 'Standard_ZRS'

@description('Days for which deleted blobs, their older versions and a deleted vault can be brought back.')
@minValue(7)
@maxValue(90)
param retentionDays int = 30

@description('Machine of the CPU cluster.')
param cpuSize string = 'Standard_D4s_v3'

@description('Most nodes of the CPU cluster.')
@minValue(1)
param cpuMaxNodes int = 4

@description('Machine of the GPU cluster.')
param gpuSize string = 'Standard_NC4as_T4_v3'

@description('Most nodes of the GPU cluster.')
@minValue(1)
param gpuMaxNodes int = 2

@description('Whether the clusters take spare machines: cheaper, but taken back at any time; the step then restarts.')
param lowPriority bool = false

@description('How long a node without work is kept, and paid for, as an ISO 8601 duration.')
param idleTime string = 'PT5M'

@description('Label Studio in which people label photos, such as https://labels.example.com without a path. Its token must be in the vault before: docs/label-studio.md.')
param labelStudioUrl string = ''

@description('Address of a Key Vault secret that holds the URL of a database for tunings; empty for none. The identity of the steps needs the role Key Vault Secrets User on it.')
param tuningStorageSecret string = ''

@description('On every resource.')
param tags object = { project: 'sparsight' }

var base = toLower(name)
var suffix = take(uniqueString(resourceGroup().id, base), 8)
var workspaceName = 'mlw-${base}'
var cpuCluster = 'cpu-cluster' // the names that pipelines/*.yml use
var gpuCluster = 'gpu-cluster'
var builderCluster = 'image-builder'
var tokenSecret = 'label-studio-token'
var internetAccess = privateNetworking ? 'Disabled' : 'Enabled'
var unnamedRequests = privateNetworking ? 'Deny' : 'Allow'

resource workspaceIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${base}-workspace'
  location: location
  tags: tags
}

resource stepsIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${base}-steps'
  location: location
  tags: tags
}

resource builderIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = if (privateNetworking) {
  name: 'id-${base}-builder'
  location: location
  tags: tags
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    name: base
    location: location
    tags: tags
  }
}

module images 'modules/storage.bicep' = {
  name: 'images'
  params: {
    name: '${base}img${suffix}'
    location: location
    tags: tags
    sku: storageSku
    containers: ['photos'] // where `data load` puts every collection
    pages: empty(labelStudioUrl) ? [] : [labelStudioUrl]
    retentionDays: retentionDays
    publicNetworkAccess: internetAccess
    defaultAction: unnamedRequests
  }
}

module workspaceStore 'modules/storage.bicep' = {
  name: 'workspace-store'
  params: {
    name: '${base}mlw${suffix}'
    location: location
    tags: tags
    sku: storageSku
    containers: []
    retentionDays: retentionDays
    publicNetworkAccess: internetAccess
    defaultAction: unnamedRequests
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  params: {
    name: 'kv-${base}-${suffix}'
    location: location
    tags: tags
    retentionDays: retentionDays
    logsId: monitoring.outputs.logsId
    publicNetworkAccess: internetAccess
    defaultAction: unnamedRequests
  }
}

module registry 'modules/registry.bicep' = {
  name: 'registry'
  params: {
    name: '${base}acr${suffix}'
    location: location
    tags: tags
    publicNetworkAccess: internetAccess
    tier: privateNetworking ? 'Premium' : 'Basic'
  }
}

module cosmos 'modules/cosmos.bicep' = {
  name: 'cosmos'
  params: {
    name: 'cosmos-${base}-${suffix}'
    location: location
    tags: tags
    database: database
    collections: collections
    publicNetworkAccess: internetAccess
  }
}

module workspaceAccess 'modules/workspace_access.bicep' = {
  name: 'workspace-access'
  params: {
    principalId: workspaceIdentity.properties.principalId
    storeName: workspaceStore.outputs.name
    vaultName: vault.outputs.name
    registryName: registry.outputs.name
    insightsName: monitoring.outputs.insightsName
  }
}

module workspace 'modules/workspace.bicep' = {
  name: 'workspace'
  params: {
    name: workspaceName
    location: location
    tags: tags
    identityId: workspaceIdentity.id
    principalId: workspaceIdentity.properties.principalId
    storeId: workspaceStore.outputs.id
    vaultId: vault.outputs.id
    registryId: registry.outputs.id
    insightsId: monitoring.outputs.insightsId
    imageBuildCompute: privateNetworking ? builderCluster : ''
    publicNetworkAccess: internetAccess
  }
  dependsOn: [workspaceAccess]
}

module network 'modules/network.bicep' = if (privateNetworking) {
  name: 'network'
  params: {
    name: base
    location: location
    tags: tags
    computePrefix: computePrefix
    endpointsPrefix: endpointsPrefix
  }
}

module endpoints 'modules/endpoints.bicep' = if (privateNetworking) {
  name: 'endpoints'
  params: {
    name: base
    location: location
    tags: tags
    networkId: privateNetworking ? network!.outputs.id : ''
    subnetId: privateNetworking ? network!.outputs.endpointsSubnetId : ''
    imagesId: images.outputs.id
    storeId: workspaceStore.outputs.id
    vaultId: vault.outputs.id
    registryId: registry.outputs.id
    cosmosId: cosmos.outputs.id
    workspaceId: workspace.outputs.id
  }
}

module stepsAccess 'modules/steps_access.bicep' = {
  name: 'steps-access'
  params: {
    principalId: stepsIdentity.properties.principalId
    imagesName: images.outputs.name
    storeName: workspaceStore.outputs.name
    registryName: registry.outputs.name
    workspaceName: workspace.outputs.name
    cosmosName: cosmos.outputs.name
    database: database
    writesLabels: !empty(labelStudioUrl)
  }
}

module labellingAccess 'modules/labelling_access.bicep' = if (!empty(labelStudioUrl)) {
  name: 'labelling-access'
  params: {
    principalId: stepsIdentity.properties.principalId
    imagesName: images.outputs.name
    vaultName: vault.outputs.name
    secretName: tokenSecret
  }
}

module builderAccess 'modules/builder_access.bicep' = if (privateNetworking) {
  name: 'builder-access'
  params: {
    principalId: privateNetworking ? builderIdentity!.properties.principalId : ''
    storeName: workspaceStore.outputs.name
    registryName: registry.outputs.name
  }
}

@batchSize(1) // Cosmos DB takes one change of roles at a time
module peopleAccess 'modules/person_access.bicep' = [
  for (person, i) in people: {
    name: 'person-access-${i}'
    params: {
      principalId: person
      imagesName: images.outputs.name
      cosmosName: cosmos.outputs.name
      database: database
    }
    dependsOn: [stepsAccess]
  }
]

module submittersAccess 'modules/submitter_access.bicep' = [
  for (submitter, i) in concat(people, submitters): {
    name: 'submitter-access-${i}'
    params: {
      principalId: submitter
      storeName: workspaceStore.outputs.name
      workspaceName: workspace.outputs.name
    }
  }
]

module cpu 'modules/cluster.bicep' = {
  name: 'cpu'
  params: {
    name: cpuCluster
    workspaceName: workspace.outputs.name
    location: location
    tags: tags
    size: cpuSize
    maxNodes: cpuMaxNodes
    lowPriority: lowPriority
    idleTime: idleTime
    identityId: stepsIdentity.id
    subnetId: privateNetworking ? network!.outputs.computeSubnetId : ''
  }
  dependsOn: [stepsAccess, endpoints]
}

module gpu 'modules/cluster.bicep' = {
  name: 'gpu'
  params: {
    name: gpuCluster
    workspaceName: workspace.outputs.name
    location: location
    tags: tags
    size: gpuSize
    maxNodes: gpuMaxNodes
    lowPriority: lowPriority
    idleTime: idleTime
    identityId: stepsIdentity.id
    subnetId: privateNetworking ? network!.outputs.computeSubnetId : ''
  }
  dependsOn: [stepsAccess, endpoints]
}

// A registry without a public address builds no images itself. A cluster of its own does, so that no step may push one.
module builder 'modules/cluster.bicep' = if (privateNetworking) {
  name: 'builder'
  params: {
    name: builderCluster
    workspaceName: workspace.outputs.name
    location: location
    tags: tags
    size: cpuSize
    maxNodes: 1
    lowPriority: false
    idleTime: idleTime
    identityId: privateNetworking ? builderIdentity!.id : ''
    subnetId: privateNetworking ? network!.outputs.computeSubnetId : ''
  }
  dependsOn: [builderAccess, endpoints]
}

@description('The content of config.json.')
output config object = {
  subscription_id: subscription().subscriptionId
  resource_group: resourceGroup().name
  workspace_name: workspace.outputs.name
  cosmos_endpoint: cosmos.outputs.endpoint
  cosmos_database: database
  blob_endpoint: images.outputs.blobEndpoint
  label_studio_url: labelStudioUrl
  tuning_storage_secret: tuningStorageSecret
  label_studio_token_secret: empty(labelStudioUrl) ? '' : '${vault.outputs.uri}secrets/${tokenSecret}'
}

@description('The cluster that pipelines take unless a step names another.')
output cpuCluster string = cpuCluster

@description('The cluster that training steps name.')
output gpuCluster string = gpuCluster
