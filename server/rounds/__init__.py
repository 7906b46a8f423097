"""The federated round, step by step."""
