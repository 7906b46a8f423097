"""Metrics of what a finished run's model writes or predicts on its test rows."""
