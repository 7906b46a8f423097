"""What a finished run is used for: evaluation, text, merging, export."""
