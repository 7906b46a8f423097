"""Settings of a recipe, a node and a server."""
