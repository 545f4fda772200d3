// Machines for steps: none while there is nothing to do, and no way in from outside.
param name string
param workspaceName string
param location string
param tags object
param size string

@minValue(1)
param maxNodes int
param lowPriority bool
param idleTime string

@description('Resource id of the identity that jobs run under.')
param identityId string

@description('Subnet of the nodes, which then have no public address; empty for none.')
param subnetId string

resource workspace 'Microsoft.MachineLearningServices/workspaces@2025-06-01' existing = { name: workspaceName }

resource cluster 'Microsoft.MachineLearningServices/workspaces/computes@2025-06-01' = {
  parent: workspace
  name: name
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identityId}': {} }
  }
  properties: {
    computeType: 'AmlCompute'
    disableLocalAuth: true
    properties: {
      osType: 'Linux'
      vmSize: size
      vmPriority: lowPriority ? 'LowPriority' : 'Dedicated'
      scaleSettings: {
        minNodeCount: 0
        maxNodeCount: maxNodes
        nodeIdleTimeBeforeScaleDown: idleTime
      }
      remoteLoginPortPublicAccess: 'Disabled'
      enableNodePublicIp: empty(subnetId)
      subnet: empty(subnetId) ? null : { id: subnetId }
    }
  }
}

output name string = cluster.name
