"""Readers of the data sets that the LoRA paper (arXiv 2106.09685) measures on, in the layouts they are published in.

Each file is below `$FEDLORA_DATA`, as its publishers pack it; nothing is downloaded.
"""
