"""Classification heads in closed form, from sums over rows that add up exactly over nodes."""
