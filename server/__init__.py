"""The aggregator: assigns, collects, reduces and commits. It runs without torch."""
