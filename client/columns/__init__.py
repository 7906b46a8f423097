"""The columns of rows without settings, and what they suggest."""
