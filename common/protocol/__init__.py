"""Messages between a node and the server."""
