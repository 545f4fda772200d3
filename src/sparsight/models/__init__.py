"""Backbones, heads and the self-supervised methods built on them."""
