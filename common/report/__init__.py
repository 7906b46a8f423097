"""The pages that a run leaves, `report.html`: what a deployment's, a simulation's and a node's have in common."""
