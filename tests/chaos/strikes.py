"""What happens to a run once a round is in its log: to its processes, its network, its disk and its roster."""

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from common.identity import operator
from tests.chaos import network
from tests.chaos.plan import Fault
from tests.chaos.processes import Place
from tests.helpers.end_to_end.numpy_project import NumpyProject

Undo = Callable[[], object]


class Strikes:
    """Strikes, and undoes what it did after some seconds.

    Args:
        project: of the run.
        places: its processes by name.
        orders: a pipe to the relay.
        admit: starts a node that is admitted.
        no_network: why there is no network of the run's own; empty if there is.
        no_disk: why there is no small disk.
    """

    def __init__(
        self,
        project: NumpyProject,
        places: Mapping[str, Place],
        orders: Any,
        admit: Callable[[str], None],
        no_network: str,
        no_disk: str,
    ) -> None:
        self._project, self._places, self._orders, self._admit_node = project, places, orders, admit
        self._no_network, self._no_disk = no_network, no_disk
        self._undo: list[tuple[float, Undo]] = []

    def strike(self, fault: Fault) -> str:
        """Let a fault happen; return why this machine cannot make it, or nothing."""
        return getattr(self, f"_{fault.kind.replace('-', '_')}")(fault) or ""

    def undo(self, now: float = float("inf")) -> None:
        """Undo what is due by now."""
        for due in [each for each in self._undo if each[0] <= now]:
            self._undo.remove(due)
            due[1]()

    def _later(self, fault: Fault, act: Undo) -> None:
        self._undo.append((time.monotonic() + float(fault.value), act))

    def _stop(self, fault: Fault) -> None:
        place = self._places[fault.where]
        place.signal(signal.SIGSTOP)
        self._later(fault, partial(place.signal, signal.SIGCONT))

    def _term(self, fault: Fault) -> None:
        self._later(fault, partial(self._places[fault.where].signal, signal.SIGTERM))

    def _kill_now(self, fault: Fault) -> None:
        self._later(fault, partial(self._places[fault.where].signal, signal.SIGKILL))

    def _relay(self, fault: Fault) -> None:
        self._orders.send((fault.where, fault.kind, float(fault.value)))

    _cut = _delay = _corrupt = _truncate = _relay

    def _lo_down(self, fault: Fault) -> str:
        if reason := self._no_network or network.set_link(False):
            return reason
        self._later(fault, partial(network.set_link, True))
        return ""

    def _queue(self, fault: Fault) -> str:
        if reason := self._no_network or network.set_queue(fault.kind):
            return reason
        self._later(fault, partial(network.set_queue, ""))
        return ""

    _netem = _slow = _queue

    def _no_space(self, fault: Fault) -> str:
        """Fill the small disk, and free it again."""
        if not self._no_disk:
            ballast = self._project.run.parent / f"ballast-{fault.at}"
            with suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            self._later(fault, partial(ballast.unlink, missing_ok=True))
        return self._no_disk

    def _revoke(self, fault: Fault) -> None:
        operator.revoke(self._project.folder / "keys", fault.where, datetime.now(UTC))
        self._places[fault.where].over = True

    def _admit(self, fault: Fault) -> None:
        self._admit_node(fault.where)

    def _renew_server(self, fault: Fault) -> None:
        operator.renew_server(self._project.folder / "keys", datetime.now(UTC))
        self._places["server"].signal(signal.SIGTERM)

    def _renew_node(self, fault: Fault) -> None:
        invite = operator.renew_node(self._project.folder / "keys", fault.where, datetime.now(UTC))
        (self._project.folder / "nodes" / invite.name).write_bytes(invite.read_bytes())
        self._places[fault.where].signal(signal.SIGTERM)
