"""What a node keeps from one message to the next, in its process and in the folder NODE.state beside its file."""
