"""What the studies measure of updates, weights and methods; functions of arrays and numbers alone."""
