"""Connections to nodes: authentication, authorization and messages."""
