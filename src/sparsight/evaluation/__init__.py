"""Metrics, probes, plots and report pages."""
