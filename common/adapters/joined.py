"""Several adapters in one: joined, so that one buffer or file carries them all, or added up."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors


def join_adapters(**parts: Adapter) -> Adapter:
    """Join several adapters into one, with module names prefixed `PART/`, so that one buffer carries them all."""
    return _JoinedAdapters(parts)


def split_adapters(joined: Adapter) -> dict[str, Adapter]:
    """Undo `join_adapters`; a part without modules is absent."""
    parts: dict[str, dict[str, Factors]] = {}
    for name, factors in joined.items():
        part, _, module = name.partition("/")
        parts.setdefault(part, {})[module] = factors
    return {part: Adapter(modules) for part, modules in parts.items()}


def stack_adapters(frozen: Adapter, trained: Adapter, dtype: str = "f4") -> Adapter:
    """Return the sum of two adapters on the same modules: the factors of the first, then those of the second."""
    return Adapter(
        {
            name: Factors(np.vstack([f.a, trained[name].a]), np.hstack([f.b, trained[name].b])).astype(dtype)
            for name, f in frozen.items()
        }
    )


def weighted_sum(terms: Iterable[tuple[float, Adapter]]) -> Adapter:
    """Return sum_i c_i dW_i exactly, in float64; what an adapter does not change counts as zero.

    With one term of weight -1 it is the negation of an adapter. Ranks add up; `lowrank.truncate` lowers them.

    Args:
        terms: weight and adapter of each.

    Raises:
        ValueError: two adapters have a module of different shapes.
    """
    found: dict[str, list[tuple[float, Factors]]] = {}
    for weight, adapter in terms:
        for name, factors in adapter.items():
            found.setdefault(name, []).append((weight, factors))
    return Adapter({name: lowrank.stack(own) for name, own in found.items()})


def leading_ranks(adapter: Adapter, ranks: Sequence[int]) -> Adapter:
    """Return the leading part of each module, of these ranks in order of name."""
    return Adapter({name: f.leading_part(rank) for (name, f), rank in zip(adapter.items(), ranks, strict=True)})


def trailing_ranks(adapter: Adapter, ranks: Sequence[int]) -> Adapter:
    """Return what `leading_ranks` leaves out."""
    return Adapter({name: f.trailing_part(rank) for (name, f), rank in zip(adapter.items(), ranks, strict=True)})


class ReplacedModule(Adapter):
    """An adapter with other factors of one module; the others stay where they are."""

    def __init__(self, adapter: Adapter, name: str, factors: Factors) -> None:
        self._adapter, self._name, self._factors = adapter, name, factors

    def __getitem__(self, name: str) -> Factors:
        return self._factors if name == self._name else self._adapter[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapter)

    def __len__(self) -> int:
        return len(self._adapter)


class _JoinedAdapters(Adapter):
    """A view of its parts: it keeps no factors in memory that they do not keep there themselves."""

    def __init__(self, parts: Mapping[str, Adapter]) -> None:
        self._parts = parts
        self._names = sorted(f"{part}/{name}" for part, adapter in parts.items() for name in adapter)

    def __getitem__(self, name: str) -> Factors:
        part, _, module = name.partition("/")
        return self._parts[part][module]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
