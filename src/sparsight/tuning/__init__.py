"""Searches for the inputs with which a training step does best, by trials of that step; studies are Optuna's."""
