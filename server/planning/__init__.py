"""Ranks of a run's modules under its budget, made before round 1 of energies that the nodes send."""
