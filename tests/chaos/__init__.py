"""Chaos: seeded runs of a real server and real nodes under faults, and a checker that replays what they leave."""
