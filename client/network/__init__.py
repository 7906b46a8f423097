"""The node's connection to the server."""
