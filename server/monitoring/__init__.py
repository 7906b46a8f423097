"""Observers of a run: console log and status file, and the view of the latter."""
