"""Results of the rules beside each other and beside pooled training, at equal client compute."""
