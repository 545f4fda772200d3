"""Where things live: metadata (Cosmos DB), images (Blob Storage), models (MLflow registry)."""
