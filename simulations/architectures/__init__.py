"""Many architectures on tiny random bases: what each can do here, as a table."""
