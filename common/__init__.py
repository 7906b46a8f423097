"""Code that client and server share: values, algebra on factors, wire format, settings. No side effects."""
