"""Sparsight: the most recognition out of the fewest labels."""

__version__ = "0.1.0"
