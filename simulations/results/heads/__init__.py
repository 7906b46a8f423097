"""Heads in closed form beside trained ones."""
