// A virtual network with a subnet for the clusters, which reach the internet through one address and are reached by
// nobody there, and one for private endpoints.
param name string
param location string
param tags object

@description('Address range of the clusters: a node takes one address.')
param computePrefix string

@description('Address range of the private endpoints: they take about 20 addresses.')
param endpointsPrefix string

resource rules 'Microsoft.Network/networkSecurityGroups@2024-01-01' = {
  name: 'nsg-${name}'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'deny-internet-in'
        properties: {
          description: 'Nothing outside the network begins a connection.'
          priority: 4000
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: 'Internet'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource address 'Microsoft.Network/publicIPAddresses@2024-01-01' = {
  name: 'pip-${name}-out'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: { publicIPAllocationMethod: 'Static' }
}

resource gateway 'Microsoft.Network/natGateways@2024-01-01' = {
  name: 'nat-${name}'
  location: location
  tags: tags
  sku: { name: 'Standard' }
  properties: {
    publicIpAddresses: [{ id: address.id }]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-01-01' = {
  name: 'vnet-${name}'
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: [computePrefix, endpointsPrefix] }
    subnets: [
      {
        name: 'compute'
        properties: {
          addressPrefix: computePrefix
          networkSecurityGroup: { id: rules.id }
          natGateway: { id: gateway.id }
          defaultOutboundAccess: false
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: endpointsPrefix
          networkSecurityGroup: { id: rules.id }
          privateEndpointNetworkPolicies: 'Enabled'
          defaultOutboundAccess: false
        }
      }
    ]
  }
}

output id string = network.id
output computeSubnetId string = '${network.id}/subnets/compute'
output endpointsSubnetId string = '${network.id}/subnets/endpoints'
