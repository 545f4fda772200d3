"""Submits pipelines to an Azure ML workspace, follows their jobs, and brings results back."""
