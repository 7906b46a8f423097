"""The header of a codec buffer: its dtype, and for each module the shape, the rank and the factors that follow."""

from collections.abc import Container, Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from common.adapters.adapter import Adapter
from common.errors import CodecError

StoredDtype = Literal["f32", "bf16", "f16", "f64"]
Sides = Literal["", "a", "ab", "b"]

_STRICT = ConfigDict(extra="forbid", strict=True)


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("a module's name must be printable")
    return name


_Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_printable)]
_Size = Annotated[int, Field(ge=1, lt=2**31)]


@dataclass(frozen=True, config=_STRICT)
class ModuleHeader:
    """dW is (d, k), of rank r; `sides` names the factors in the buffer."""

    d: _Size
    k: _Size
    r: Annotated[int, Field(ge=0, lt=2**31)]
    sides: Sides


@dataclass(frozen=True, config=_STRICT)
class CodecHeader:
    """The layout of a buffer's data; modules in order of name."""

    dtype: StoredDtype
    modules: dict[_Name, ModuleHeader]

    def arrays(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield the flat name and the shape of each array in the buffer, in order."""
        for name, module in self.modules.items():
            for side in module.sides:
                yield f"{name}.{side}", (module.r, module.k) if side == "a" else (module.d, module.r)


_JSON = TypeAdapter(CodecHeader)


def make_header(adapter: Adapter, dtype: StoredDtype, omit: Container[str]) -> CodecHeader:
    """Make the header of an adapter without the arrays named in `omit`.

    Raises:
        CodecError: a module's name is empty, too long or not printable, or a size is out of range.
    """

    def sides(name: str) -> Sides:
        return "".join(side for side in "ab" if f"{name}.{side}" not in omit)  # type: ignore[return-value]

    try:
        return CodecHeader(dtype, {name: ModuleHeader(*f.shape, f.rank, sides(name)) for name, f in adapter.items()})
    except ValidationError as error:
        raise _explain(error) from None


def dump_header(layout: CodecHeader) -> bytes:
    """Write a header as canonical JSON (sorted keys, no spaces), padded with spaces to a multiple of 8 bytes."""
    text = _JSON.dump_json(layout)
    return text + b" " * (-len(text) % 8)


def parse_header(text: bytes) -> CodecHeader:
    """Parse a header.

    Raises:
        CodecError: the header is not in the form that `dump_header` writes.
    """
    try:
        layout = _JSON.validate_json(text)
    except ValidationError as error:
        raise _explain(error) from None
    if list(layout.modules) != sorted(layout.modules) or dump_header(layout) != text:
        raise CodecError("the header is not canonical: keys must be sorted and unique, and spaces only at its end")
    return layout


def _explain(error: ValidationError) -> CodecError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return CodecError(f"the header is wrong at {where[:300]!r}: {first['msg']}")
