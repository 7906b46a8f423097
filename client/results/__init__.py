"""A node's own folder of a run: the adapter that it trained with others, its losses and its receipts."""
