"""Keys and certificates, and their files."""
