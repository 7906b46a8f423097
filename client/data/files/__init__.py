"""Readers of a node's files: rows from whatever format a file has, told by its content."""
