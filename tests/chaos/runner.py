"""Runs one plan: a server and nodes as processes that are started again when a fault ended them, until the run is over.

A plan's faults are finite, so its run must end, with every round in the log.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from multiprocessing import Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from common.identity import operator
from tests.chaos import network, processes
from tests.chaos.checker import Finished, check
from tests.chaos.node import take_part
from tests.chaos.plan import AFTER_ROUND, AT_OPERATION, LATE, NAMES, Fault, Plan
from tests.helpers.end_to_end.deployment import free_port
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.server.exchange import NumpyNode

LIMIT, POLL, PAUSE = 90.0, 0.02, 0.2
"""Seconds for a run, between two looks at it, and before a process is started again."""
SPARE = 8
"""Starts of a process beyond one for each fault: a node that is refused ends and returns."""


@dataclass
class Place:
    """A process that is started again, with the next of its faults each time."""

    name: str
    job: Callable[[], object]
    log: Path
    folder: Path
    faults: list[Fault]
    process: BaseProcess | None = None
    starts: int = 0
    rest: float = 0.0
    over: bool = False
    ends: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Start the process."""
        self.starts += 1
        fault = self.faults.pop(0) if self.faults else None
        self.process = processes.start(self.job, self.log, self.folder, fault)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        if self.process and self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)

    def ended(self) -> int | None:
        """Return the exit status once, when the process has ended."""
        if self.process is None or self.process.exitcode is None:
            return None
        status, self.process = self.process.exitcode, None
        self.ends.append(status)
        self.rest = time.monotonic() + PAUSE
        return status


class ChaosRun:
    """One run of a plan in a new folder; `skipped` are the faults that this machine cannot make, and why."""

    def __init__(self, plan: Plan, folder: Path, no_network: str = "") -> None:
        self.plan, self.skipped, self._no_network = plan, list[str](), no_network
        top: dict[str, Any] = {"rounds": plan.rounds, "quorum": plan.quorum, "deadline": 10.0}
        top["base"] = {"file": "base.toml", "max_rank": max(plan.ranks.values())}
        self.project = NumpyProject(folder, plan.server, **top)
        self.nodes = {name: NumpyNode(name, rank, 10 + rank) for name, rank in plan.ranks.items()}
        self.ports = {name: free_port() for name in (*NAMES, LATE)}
        self._events = list(plan.of_rounds())
        self._undo: list[tuple[float, Callable[[], object]]] = []
        self._log = self.project.run / "journal" / "log.jsonl"
        self.places: dict[str, Place] = {}

    def run(self) -> list[str]:
        """Run to the end, and return what went wrong."""
        self._begin()
        end = time.monotonic() + LIMIT
        faults: list[str] = []
        try:
            while not (faults or self._is_over()):
                faults += self._step()
                if time.monotonic() > end:
                    faults.append(f"not over after {LIMIT:g} s: round {self.committed}, ends {self._ends()}")
                time.sleep(POLL)
            faults = faults or self._end()
        finally:
            self._stop()
        return [*faults, *self._said()]

    @property
    def committed(self) -> int:
        """The last round in the log; -1 before there is one."""
        return (self._log.read_bytes().count(b"\n") if self._log.exists() else 0) - 1

    def _begin(self) -> None:
        self.project.admit_new(self.nodes)
        theirs, self._orders = Pipe(duplex=False)
        relay = partial(network.relay, self.ports, self.project.port, theirs)
        self._relay = processes.start(relay, self.project.folder / "relay.log", self.project.folder, None)
        serve = partial(processes.serve, self.project.file)
        self._place("server", serve, self.project.run)
        for name in self.nodes:
            self._place_node(name)

    def _place(self, name: str, job: Callable[[], object], folder: Path) -> None:
        log, faults = self.project.folder / f"{name}.log", self.plan.of(name, AT_OPERATION)
        folder.mkdir(parents=True, exist_ok=True)
        self.places[name] = Place(name, job, log, folder, faults)

    def _place_node(self, name: str) -> None:
        spoils = {fault.at: str(fault.value) for fault in self.plan.of(name, ("reply",))}
        job = partial(take_part, self.project, self.ports[name], self.nodes[name], spoils)
        self._place(name, job, self.project.folder / "nodes")

    def _step(self) -> list[str]:
        now, faults = time.monotonic(), []
        for due in [each for each in self._undo if each[0] <= now]:
            self._undo.remove(due)
            due[1]()
        for fault in [each for each in self._events if each.at <= self.committed]:
            self._events.remove(fault)
            self._strike(fault)
        for place in self.places.values():
            if (status := place.ended()) is not None:
                place.over = place.over or (place.name == "server" and status == 0 and self._has_told())
            if place.process is None and not place.over and now >= place.rest:
                place.start()
            if place.starts > len(self.plan.faults) + SPARE:
                faults.append(f"{place.name} ended again and again: {place.ends}")
        return faults

    def _is_over(self) -> bool:
        return self.places["server"].over

    def _has_told(self) -> bool:
        return (self.project.run / "journal" / "told").exists()

    def _ends(self) -> dict[str, list[int]]:
        return {name: place.ends for name, place in self.places.items()}

    def _strike(self, fault: Fault) -> None:
        act = getattr(self, f"_do_{fault.kind.replace('-', '_')}")
        if reason := act(fault):
            self.skipped.append(f"{fault}: {reason}")

    def _later(self, seconds: float | str, act: Callable[[], object]) -> None:
        self._undo.append((time.monotonic() + float(seconds), act))

    def _do_stop(self, fault: Fault) -> None:
        place = self.places[fault.where]
        place.signal(signal.SIGSTOP)
        self._later(fault.value, partial(place.signal, signal.SIGCONT))

    def _do_term(self, fault: Fault) -> None:
        self._later(fault.value, partial(self.places[fault.where].signal, signal.SIGTERM))

    def _do_kill_now(self, fault: Fault) -> None:
        self._later(fault.value, partial(self.places[fault.where].signal, signal.SIGKILL))

    def _order(self, fault: Fault) -> None:
        self._orders.send((fault.where, fault.kind, float(fault.value)))

    _do_cut = _do_delay = _do_corrupt = _do_truncate = _order

    def _do_lo_down(self, fault: Fault) -> str:
        if self._no_network:
            return self._no_network
        self._later(fault.value, partial(network.set_link, True))
        return network.set_link(False)

    def _do_netem(self, fault: Fault) -> str:
        if self._no_network:
            return self._no_network
        if reason := network.set_netem(True):
            return reason
        self._later(fault.value, partial(network.set_netem, False))
        return ""

    def _do_revoke(self, fault: Fault) -> None:
        operator.revoke(self.project.folder / "keys", fault.where, datetime.now(UTC))
        self.places[fault.where].over = True

    def _do_admit(self, fault: Fault) -> None:
        rank = min(self.plan.ranks.values())
        self.nodes[fault.where] = NumpyNode(fault.where, rank, 10 + rank)
        self.project.admit(fault.where)
        self._place_node(fault.where)

    def _do_renew_server(self, fault: Fault) -> None:
        operator.renew_server(self.project.folder / "keys", datetime.now(UTC))
        self.places["server"].signal(signal.SIGTERM)

    def _do_renew_node(self, fault: Fault) -> None:
        invite = operator.renew_node(self.project.folder / "keys", fault.where, datetime.now(UTC))
        (self.project.folder / "nodes" / invite.name).write_bytes(invite.read_bytes())
        self.places[fault.where].signal(signal.SIGTERM)

    def _end(self) -> list[str]:
        """Start the finished run once more, which changes nothing, and check what is there."""
        self._stop()
        before, log = self._log.read_bytes(), self.project.folder / "again.log"
        again = processes.start(partial(processes.serve, self.project.file), log, self.project.run, None)
        again.join(30)
        faults = [] if again.exitcode == 0 else [f"a start of the finished run ended with {again.exitcode}"]
        again.kill()
        if self._log.read_bytes() != before:
            faults.append("a start of the finished run changed its log")
        return faults + check(self.finished())

    def finished(self) -> Finished:
        """Return what the run left, for the checker."""
        torn = frozenset(fault.where for fault in self.plan.faults if fault.kind in ("torn", "full"))
        kept = self.plan.server["keep_updates"] == "all"
        nodes = [self.nodes[name] for name in sorted(self.nodes)]
        return Finished(self.project.folder, self.plan.rounds, self.plan.quorum, kept, nodes, torn)

    def _stop(self) -> None:
        for _, act in self._undo:
            act()
        self._undo.clear()
        for place in self.places.values():
            if place.process:
                place.process.join(0 if place.over else 1)
                place.process.kill()
                place.process.join()
        self._relay.kill()
        self._relay.join()

    def _said(self) -> list[str]:
        """Return the logs that hold a traceback."""
        logs = sorted(self.project.folder.glob("*.log"))
        return [f"a traceback in {path.name}" for path in logs if "Traceback" in path.read_text(errors="replace")]
