"""Fields of several forms: a value of none of them is one fault, which says what the field takes."""

from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


def one_of(forms: str) -> WrapValidator:
    """Return the validator of a union, whose one error names its forms, in place of one error for each of them."""

    def check(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        try:
            return read(value)
        except ValidationError:
            raise PydanticCustomError("form", "give {forms}", {"forms": forms}) from None

    return WrapValidator(check)
