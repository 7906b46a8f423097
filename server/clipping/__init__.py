"""Clipping: the norm bound on each reply, and replies that are alike."""
