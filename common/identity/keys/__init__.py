"""Keys and certificates, and the files they lie in."""
