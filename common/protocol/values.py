"""Plain values of a message as a dataclass: written in one way, and read back in full or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

InvalidReason = Literal["malformed", "weight", "nan"]


class InvalidValue(ValueError):
    """A value is missing or against its rule; `reason` is the reason word for the message."""

    def __init__(self, name: str, reason: InvalidReason) -> None:
        super().__init__(f"{name} is missing or invalid ({reason})")
        self.reason = reason


@dataclass(frozen=True)
class Rule:
    """The values that a field may have: of exactly one type, finite, and between two bounds; `items` are a list's.

    A missing value of a field whose rule is `optional`, which earlier releases did not send, is the field's default.
    """

    kind: type[Any]
    reason: InvalidReason = "malformed"
    low: float = -inf
    high: float = inf
    items: type[Any] | None = None
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Check a value of the field `name`.

        Raises:
            InvalidValue: with the rule's reason word, or `nan` for a number that is not finite.
        """
        if type(value) is not self.kind:
            raise InvalidValue(name, self.reason)
        if isinstance(value, float) and not isfinite(value):
            raise InvalidValue(name, "nan")
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise InvalidValue(name, self.reason)
        if self.items and not all(type(item) is self.items for item in value):
            raise InvalidValue(name, self.reason)


Text = Annotated[str, Rule(str)]
Whole = Annotated[int, Rule(int, low=0)]
Natural = Annotated[int, Rule(int, low=1)]
Real = Annotated[float, Rule(float)]
Texts = Annotated[list[str], Rule(list, items=str)]


class Values:
    """A base for dataclasses whose fields are the plain values of a message; a field without a rule is not checked."""

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message."""
        return {
            name: list(v) if isinstance(v, tuple) else v for name in _rules(type(self)) for v in (vars(self)[name],)
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`; other values are ignored.

        Raises:
            InvalidValue: a value is missing or against its rule.
        """
        read = {}
        for name, (rule, is_tuple) in _rules(cls).items():
            if name not in values and rule and rule.optional:
                continue
            if name not in values:
                raise InvalidValue(name, rule.reason if rule else "malformed")
            if rule:
                rule.check(name, values[name])
            read[name] = tuple(values[name]) if is_tuple else values[name]
        return cls(**read)


def _rules(kind: type) -> dict[str, tuple[Rule | None, bool]]:
    """Return each field's rule, and whether it is a tuple, which travels as a list."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _rule(hints[field.name]) for field in fields(kind)}


def _rule(hint: Any) -> tuple[Rule | None, bool]:
    marks = getattr(hint, "__metadata__", ())
    plain = get_args(hint)[0] if marks else hint
    return next((mark for mark in marks if isinstance(mark, Rule)), None), get_origin(plain) is tuple
