"""Speed and memory beside those of a peer, in one run, with the check of the result beside the speed."""
