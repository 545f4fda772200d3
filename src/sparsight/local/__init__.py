"""Runs pipelines on this machine; starts and stops the local services."""
