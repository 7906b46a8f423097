"""Connections to nodes, and who may call."""
