"""A classification head in closed form, made by the server from sums that the nodes send."""
