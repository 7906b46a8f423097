"""The first of pydantic's faults: it can describe all or none, in 600 bytes or more each, of input with 3 for each."""

from pydantic import ValidationError

MANY = 1000
"""Faults beyond which none is described."""


def first_fault(error: ValidationError) -> tuple[str, str]:
    """Return the place and the text of the first fault; of very many, only their number."""
    if (count := error.error_count()) > MANY:
        return "", f"it has {count} faults"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"]
