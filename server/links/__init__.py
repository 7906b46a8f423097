"""Requests to nodes, whatever carries them, and what each node holds."""
