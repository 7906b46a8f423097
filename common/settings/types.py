"""Constrained types of settings."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("write HOST:PORT, for example fed.example.org:8443")
    return text


def _address_if_any(text: str) -> str:
    return text and _address(text)


BUDGET = re.compile(r"(?P<number>[0-9]{1,18}(\.[0-9]{1,18})?) ?(?P<unit>%|B|kB|MB|GB|KiB|MiB|GiB)?")
"""A number of parameters, a percentage of the base model's, or bytes."""


def _budget(value: object) -> object:
    written = isinstance(value, str) and BUDGET.fullmatch(value)
    if not written and not (type(value) is int and 1 <= value < 10**18):
        raise ValueError('write "0.1%" of the base model\'s parameters, 50000 parameters, or the bytes "300 kB"')
    return value


Count = Annotated[int, Field(ge=1)]


Share = Annotated[float, Field(ge=0, lt=1)]


Positive = Annotated[float, Field(gt=0)]


Names = Annotated[tuple[str, ...], Field(min_length=1)]


Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="up to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit",
    ),
]


Budget = Annotated[
    str | int, BeforeValidator(_budget), Field(description='`"0.1%"`, `"300 kB"` or positive integer below 1e18')
]


Address = Annotated[str, AfterValidator(_address), Field(description="`HOST:PORT`")]


AddressIfAny = Annotated[str, AfterValidator(_address_if_any), Field(description="`HOST:PORT`")]


Dtype = Literal["auto", "float32", "bfloat16", "float16", "nf4", "int8"]


Head = Literal["keep", "new", "listed"]


Wire = Literal["float32", "bfloat16", "int8"]
