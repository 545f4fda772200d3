"""Compressed images: an autoencoder's bits, their context model, the container file, and tiles."""
