"""Benches of the transport."""
