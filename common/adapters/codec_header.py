"""The header of a codec buffer: its dtype, and for each module the shape, the rank and the factors that follow."""

from collections.abc import Container, Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from common.adapters.adapter import Adapter
from common.errors import CodecError
from common.first_fault import first_fault

StoredDtype = Literal["f32", "bf16", "f16", "f64", "i8"]
Sides = Literal["", "a", "ab", "b"]

MAX_COMMAS = 2**18
"""Most commas in a header, 65,536 modules: an empty list takes 3 bytes in a header, and 64 or more in memory."""
_STRICT = ConfigDict(extra="ignore", strict=True)  # What is ignored makes the header another than the canonical one.


_Size = Annotated[int, Field(ge=1, lt=2**31)]


@dataclass(frozen=True, config=_STRICT)
class ModuleHeader:
    """dW is (d, k), of rank r; `sides` names the factors in the buffer."""

    d: _Size
    k: _Size
    r: Annotated[int, Field(ge=0, lt=2**31)]
    sides: Sides


_MODULE = TypeAdapter(ModuleHeader)


def _modules(value: Any) -> Any:
    """Validate the modules one by one, so that the first fault is the last."""
    return {_name(name): _module(name, each) for name, each in value.items()} if isinstance(value, dict) else value


def _name(name: str) -> str:
    if not (0 < len(name) <= 256 and name.isprintable()):
        raise CodecError(f"the header is wrong at {name[:300]!a}: a module's name is 1 to 256 printable characters")
    return name


def _module(name: str, value: Any) -> ModuleHeader:
    try:
        return _MODULE.validate_python(value, strict=False)  # What this changes, the canonical form refuses.
    except ValidationError as error:
        raise _explain(error, "modules", name) from None


@dataclass(frozen=True, config=_STRICT)
class CodecHeader:
    """The layout of a buffer's data; modules in order of name."""

    dtype: StoredDtype
    modules: Annotated[dict[str, ModuleHeader], BeforeValidator(_modules)]

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
    if text.count(b",") > MAX_COMMAS:
        raise CodecError(f"the header is too long: it has more than {MAX_COMMAS} commas")
    try:
        layout = _JSON.validate_json(text)
    except ValidationError as error:
        raise _explain(error) from None
    if list(layout.modules) != sorted(layout.modules) or dump_header(layout) != text:
        raise CodecError("the header is not canonical: keys must be sorted and unique, and spaces only at its end")
    return layout


def _explain(error: ValidationError, *place: str) -> CodecError:
    where, what = first_fault(error)
    return CodecError(f"the header is wrong at {'.'.join((*place, where))[:300]!a}: {what}")
