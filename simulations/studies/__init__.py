"""The claims of the LoRA paper (arXiv 2106.09685), each measured by a study of its own: `fedlora study NAME RECIPE`."""
