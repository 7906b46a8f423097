"""Adapters: their value, their algebra and their byte format."""
