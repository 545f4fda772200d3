"""Chooses the photos that are worth labelling, from their embeddings."""
