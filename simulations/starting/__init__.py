"""The first steps: check what a run would read, and write its first files."""
