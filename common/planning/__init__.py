"""Ranks of modules under a budget, made of one number that each node sends of each module."""
