"""One file for each study; those that compare accuracies are in `accuracy`."""
