"""Training and evaluation of adapters."""
