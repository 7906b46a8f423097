"""Ways to adapt a frozen base that the LoRA paper compares with LoRA (arXiv 2106.09685, section 5.1).

They train centrally, and only here: what leaves a node of a federation is A and B.
"""
