"""The data pipeline: from a node's rows to batches."""
