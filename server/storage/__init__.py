"""The server's files on disk: journal, checkpoints and spool."""
