"""A base model with several adapters, which answers requests in common batches."""
