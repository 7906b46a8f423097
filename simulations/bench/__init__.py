"""Benches of speed and memory against a peer, in one run, which also checks that the results agree."""
