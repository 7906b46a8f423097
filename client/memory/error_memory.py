"""What a node has not sent of its gradients: kept on its disk in two states, of which the server's count decides.

The state that the last reply began with is kept beside the one that holds if this reply counts. The next request names
the last reply of this node that the server counted, and the factor by which it was clipped; the node goes on from what
belongs to it. A reply that was late, refused or abandoned has not been sent, and neither has what was clipped away.

    NODE.state/gradient-memory    a line of JSON; start/, next/ and sent/ as one adapter
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from client.memory.state_file import StateFile, state_folder
from common.adapters.adapter import Adapter, Array, Factors
from common.adapters.codec import DecodeLimits, decode_adapter, encode_adapter
from common.adapters.joined import join_adapters, split_adapters
from common.disk_errors import remedy
from common.errors import CodecError, ConfigError
from common.log_format import event
from common.protocol.assignment import CountedReply

Matrices = Mapping[str, Array]
"""A matrix (n, R) for each side `a/NAME` and `b/NAME` of a gradient."""
SCALE = 2.0**16
"""Loss scale that float16 begins with, as PyTorch's GradScaler does."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Memory:
    """What a node has not sent, and the loss scale of its float16."""

    unsent: Matrices = field(default_factory=dict)
    scale: float = SCALE


@dataclass(frozen=True)
class Reply:
    """A reply and what the node goes on from if it counts.

    Args:
        round: of the reply.
        update: SHA-256 of its factors.
        sent: its factors.
        memory: what is left out.
    """

    round: int
    update: str
    sent: Adapter
    memory: Memory


class ErrorMemory:
    """The memory of one node in one run.

    Args:
        file: settings file of the node; the memory is in a folder beside it.
        node: its name.
        run: hash of the run's settings.
    """

    def __init__(self, file: Path, node: str, run: str) -> None:
        self._file = StateFile(state_folder(file) / "gradient-memory", {"node": node, "run": run})

    def recall(self, counted: CountedReply, shapes: Mapping[str, tuple[int, int]]) -> Memory:
        """Return what belongs to the last counted reply; nothing, and a line in the log, if it is not there.

        Args:
            counted: as the server names it.
            shapes: (n, R) of each side of a gradient of this request.
        """
        try:
            found = self._load()
            memory = found.memory(counted) if found else None
        except (OSError, CodecError, ValueError, KeyError, TypeError) as error:
            return self._lose(f"{self._file.path} cannot be used ({error!r})")
        if found is None or not counted.counted_round:
            return self._lose(f"{self._file.path} is not there") if counted.counted_round else Memory()
        if memory is None:
            return self._lose(f"{self._file.path} has nothing of the reply of round {counted.counted_round}")
        if any(shapes.get(side) != matrix.shape for side, matrix in memory.unsent.items()):
            return self._lose(f"{self._file.path} is of other factors")
        return memory

    def keep(self, counted: CountedReply, start: Memory, reply: Reply) -> None:
        """Write both states, before the reply leaves.

        Raises:
            ConfigError: they cannot be written.
        """
        names = {"start": [counted.counted_round, counted.counted_update], "next": [reply.round, reply.update]}
        scales = {"start_scale": start.scale, "next_scale": reply.memory.scale}
        parts = {"start": _as_adapter(start.unsent), "next": _as_adapter(reply.memory.unsent), "sent": reply.sent}
        with self._saying_where():
            self._file.write(names | scales, encode_adapter(join_adapters(**parts)))

    def check_writable(self) -> None:
        """Make the folder, and check that a file can be written there.

        Raises:
            ConfigError: it cannot.
        """
        with self._saying_where():
            self._file.probe()

    @contextmanager
    def _saying_where(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ConfigError(
                f"{self._file.path.parent}: cannot keep there what this node has not sent of its gradients: "
                f"{error.strerror}; {remedy(error)}"
            ) from error

    def _load(self) -> "_Kept | None":
        if (found := self._file.read()) is None:
            return None
        values, blob = found
        return _Kept(values, split_adapters(decode_adapter(blob, DecodeLimits(max_bytes=2 * len(blob) + 2**10))))

    def _lose(self, reason: str) -> Memory:
        log.warning(
            "%s: what this node had not sent of its gradients is lost, and it goes on from nothing",
            reason,
            extra=event("memory-lost", reason=reason),
        )
        return Memory()


@dataclass(frozen=True)
class _Kept:
    """A file as it was read: its values, and the adapters `start`, `next` and `sent`."""

    values: Mapping[str, Any]
    parts: Mapping[str, Adapter]

    def memory(self, counted: CountedReply) -> Memory | None:
        """Return the state that belongs to a counted reply, or None."""
        asked = [counted.counted_round, counted.counted_update]
        if asked == self.values["start"]:
            return Memory(_matrices(self.parts.get("start")), self.values["start_scale"])
        if asked != self.values["next"]:
            return None
        unsent = dict(_matrices(self.parts.get("next")))
        clipped = 1 - counted.counted_clip
        for side, factors in self.parts.get("sent", Adapter()).items() if clipped else ():
            more = clipped * (factors.b.astype("f8") @ factors.a.astype("f8"))
            unsent[side] = (unsent.get(side, 0.0) + more).astype("f4")
        return Memory(unsent, self.values["next_scale"])


def _as_adapter(matrices: Matrices) -> Adapter:
    return Adapter({side: Factors(np.eye(each.shape[1], dtype="f4"), each) for side, each in matrices.items()})


def _matrices(adapter: Adapter | None) -> Matrices:
    return {side: factors.b for side, factors in (adapter or Adapter()).items()}
