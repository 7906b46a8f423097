"""A node's answers to what a server asks beside training: sums for a head in closed form, and energies of modules."""
