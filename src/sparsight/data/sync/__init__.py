"""Brings what people said in Label Studio into the documents of the metadata store."""
