"""What is measured of a round: of each client, of the whole, and how exact its sum is."""
