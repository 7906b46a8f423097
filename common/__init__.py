"""What every side agrees on: values, algebra on factors, the wire format, settings. No side effects."""
