// For work that matters: reached from a virtual network only, copies in three zones, machines that nobody takes back.
using 'main.bicep'

param name = 'sparsight'
param privateNetworking = true
param storageSku = 'Standard_ZRS'
param retentionDays = 90
param cpuMaxNodes = 8
param gpuSize = 'Standard_NC24ads_A100_v4'
param gpuMaxNodes = 4
param lowPriority = false
param idleTime = 'PT10M'
