"""The part that every side shares: values, algebra on factors, the wire format, settings. No side effects."""
