"""Hugging Face folders: the base model as stored, and PEFT adapters."""
