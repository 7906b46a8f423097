"""The last global updates: of the run that ends, and of earlier runs whose nodes were away then."""
