"""Claims about accuracy: methods, ranks, placements and rows, trained and compared over seeds."""
