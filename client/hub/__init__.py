"""The Hugging Face hub, only where a user asks for it."""
