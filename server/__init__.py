"""The aggregator: assigns, collects, reduces and commits. Runs without torch."""
