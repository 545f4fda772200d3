// To try it out: reached from the internet by identity, one copy of everything, small clusters of spare machines.
using 'main.bicep'

param name = 'sparsight'
param privateNetworking = false
param storageSku = 'Standard_LRS'
param retentionDays = 7
param cpuMaxNodes = 2
param gpuMaxNodes = 1
param lowPriority = true
param idleTime = 'PT2M'
