"""Chats: read from a row in any of the forms that people have, rendered by a template, tokenised with marks."""
