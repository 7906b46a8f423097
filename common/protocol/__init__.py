"""What a node and the server say to each other."""
