"""The broadcast G of the sum S that the server keeps: each round a new whole, or what was sent and a change.

With [server] rank_change = q, G_t = [G_{t-1} | D_t], and D_t is the truncation of S_t - G_{t-1} to rank q, so that a
node that holds G_{t-1} needs D_t alone. G is the list of what was sent, which nobody recompresses: other machines would
get other bits. What truncation and rounding leave out is in S - G, and comes later. Where the list would grow past
rank_global, a new whole of half that rank begins the next one; the last round sends one of all of rank_global. Of the
last projection of a head in closed form nothing is cut, and a whole has several parts, which leave no rounding.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors, Shapes, zeros
from common.adapters.joined import ReplacedModule
from common.adapters.rounding import Wire
from common.errors import ConfigError
from server.algorithms.base import AlgorithmSettings
from server.algorithms.state import State


@dataclass(frozen=True)
class Broadcast:
    """The rule of G.

    Args:
        settings: of the run.
        rank_global: largest rank of G.

    Raises:
        ConfigError: two changes exceed it.
    """

    settings: AlgorithmSettings
    rank_global: int

    def __post_init__(self) -> None:
        if self._rank_change and 2 * self._rank_change > self.rank_global:
            raise ConfigError(
                f"[server] rank_change = {self._rank_change} is more than half of rank_global = {self.rank_global}, so "
                "that every other round would send the whole; lower rank_change, or raise rank_global"
            )

    def begin(self, shapes: Shapes, start: Adapter, rank_kept: int) -> dict[str, Adapter]:
        """Return the parts `mass`, `global` and `lost` of a state that begins at an update.

        Args:
            shapes: (d, k) of all modules.
            start: the update, of those modules that do not begin at zero.
            rank_kept: largest rank of S.
        """
        nothing = zeros(shapes)
        mass, lost = dict(nothing.astype("f8")), dict(nothing.astype("f8"))
        sent = dict(nothing)
        for name, factors in start.items():
            total = lowrank.recompress(factors)
            rank = total.rank if self.settings.is_whole(name) else rank_kept
            mass[name], lost[name] = total.leading_part(rank), total.trailing_part(rank)
            if total.rank:
                sent[name] = self.next(mass[name], nothing[name], self.rank_global, 0, name)
        return {"mass": Adapter(mass), "global": Adapter(sent), "lost": Adapter(lost)}

    def rank_of_whole(self, sent: Adapter, number: int) -> int | None:
        """Return the rank of the new whole that round `number` ends with, after `sent`; None if it sends a change."""
        if self._rank_change is None or number == self.settings.train.rounds:
            return self.rank_global
        rank = max((f.rank for name, f in sent.items() if not self.settings.is_whole(name)), default=0)
        return None if rank + self._rank_change <= self.rank_global else self.rank_global // 2

    def next(self, mass: Factors, sent: Factors, rank: int | None, number: int, name: str) -> Factors:
        """Return the G of a module that round `number` ends with.

        Args:
            mass: S of the module.
            sent: its G before.
            rank: of a new whole; None for a change.
            number: of the round; it and the name key the rounding.
            name: of the module.
        """
        if rank is not None:
            key, whole = ("global", number, name), self.settings.is_whole(name)
            return self._exactly(mass, *key) if whole else self.settings.rounded(mass.leading_part(rank), *key)
        left = lowrank.truncate(_difference(mass, sent), self._rank_change)
        return _joined(sent, self.settings.rounded(left, "global", number, name))

    def _exactly(self, mass: Factors, *key: str | int) -> Factors:
        """Return factors that the wire holds, of which each further part makes up for the rounding of those before."""
        sent = self.settings.rounded(mass, *key)
        for part in range(1, _PARTS[self.settings.server.wire]):
            left = lowrank.recompress(_difference(mass, sent))
            sent = _joined(sent, self.settings.rounded(left, part, *key))
        return sent

    def replaced(self, state: State, head: Factors) -> dict[str, Adapter]:
        """Return the parts `mass` and `global` of a state with this update of the head's last projection."""
        name = self.settings.last
        sent = self._exactly(head.astype("f8"), "head", state.round, name)
        return {
            "mass": ReplacedModule(state.parts["mass"], name, head.astype("f8")),
            "global": ReplacedModule(state.parts["global"], name, sent),
        }

    @property
    def _rank_change(self) -> int | None:
        return self.settings.server.rank_change


_PARTS: Mapping[Wire, int] = {"float32": 1, "bfloat16": 3, "int8": 3}
"""Parts of a head that is sent as a whole: each leaves about a hundredth of the one before."""


def _difference(mass: Factors, sent: Factors) -> Factors:
    return lowrank.stack([(1.0, mass), (-1.0, sent)])


def _joined(first: Factors, second: Factors) -> Factors:
    return Factors(np.vstack([first.a, second.a]), np.hstack([first.b, second.b]))
