"""Signed documents: request, roster, invite, signatures."""
