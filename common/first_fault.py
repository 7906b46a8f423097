"""Validation that ends early: pydantic describes every fault, in 600 bytes or more, of input that needs 3 for each."""

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

MANY = 100
"""Faults beyond which none is described."""


class FirstFault(Exception):
    """An item is wrong; `error` describes its faults."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__(str(error.error_count()))
        self.error = error


def _stop(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        raise FirstFault(error) from None


STOP = WrapValidator(_stop)
"""Mark on the items of a mapping: the first wrong one raises `FirstFault`, and the others are not looked at."""


def first_fault(error: ValidationError | FirstFault) -> tuple[str, str]:
    """Return the place and the text of the first fault; of very many, only their number."""
    if isinstance(error, FirstFault):
        return first_fault(error.error)
    if (count := error.error_count()) > MANY:
        return "", f"it has {count} faults"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"]
