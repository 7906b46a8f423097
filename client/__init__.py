"""A node: keeps its data and a frozen base model, and trains low-rank factors."""
