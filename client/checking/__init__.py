"""What a run would read, shown before one: rows as the model sees them, counts, and what to change."""
