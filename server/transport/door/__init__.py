"""At the door of the server: who holds its places, which calls it takes, and what the log says of those refused."""
