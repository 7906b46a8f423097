"""Runs one plan: a server and nodes as processes that are started again when a fault ended them, until the run is over.

A plan's faults are finite, so its run must end, with every round in the log.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from socket import create_server
from typing import Any

from tests.chaos import network, processes
from tests.chaos.checker import check
from tests.chaos.finished import Finished
from tests.chaos.node import take_part
from tests.chaos.plan import AT_OPERATION, LATE, NAMES, Plan
from tests.chaos.processes import MET, Place
from tests.chaos.strikes import Strikes
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.server.exchange import NumpyNode

LIMIT, POLL = 90.0, 0.02
"""Seconds for a run, and between two looks at it."""
SPARE = 8
"""Starts of a process beyond one for each fault: a node that is refused ends and returns."""


class ChaosRun:
    """One run of a plan in a new folder; `skipped` are the faults that this machine cannot make, and why.

    `met` counts the faults that happened, by kind.
    """

    def __init__(self, plan: Plan, folder: Path, no_network: str = "") -> None:
        self.plan, self.skipped, self.met = plan, list[str](), Counter[str]()
        no_disk = no_network or (network.mount_small(folder / "runs") if plan.of("project", ("no-space",)) else "")
        top: dict[str, Any] = {"rounds": plan.rounds, "quorum": plan.quorum, "deadline": 10.0}
        top["base"] = {"file": "base.toml", "max_rank": max(plan.ranks.values())}
        # Bound before the project picks a free port, which is its own only once its server runs.
        self._doors = {name: create_server(("127.0.0.1", 0)) for name in (*NAMES, LATE)}
        self.project = NumpyProject(folder, plan.server, **top)
        self.nodes = {name: NumpyNode(name, rank, 10 + rank) for name, rank in plan.ranks.items()}
        self._events = list(plan.of_rounds())
        self._log = self.project.run / "journal" / "log.jsonl"
        self.places: dict[str, Place] = {}
        theirs, orders = Pipe(duplex=False)
        carry = partial(network.relay, self._doors, self.project.port, theirs)
        self._relay = processes.start(carry, folder / "relay.log", folder, None)
        self._strikes = Strikes(self.project, self.places, orders, self._admit, no_network, no_disk)

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
        job = partial(take_part, self.project, self._doors[name].getsockname()[1], self.nodes[name], spoils)
        self._place(name, job, self.project.folder / "nodes")

    def _admit(self, name: str) -> None:
        rank = min(self.plan.ranks.values())
        self.nodes[name] = NumpyNode(name, rank, 10 + rank)
        self.project.admit(name)
        self._place_node(name)

    def _step(self) -> list[str]:
        now, faults = time.monotonic(), []
        self._strikes.undo(now)
        for fault in [each for each in self._events if each.at <= self.committed]:
            self._events.remove(fault)
            if reason := self._strikes.strike(fault):
                self.skipped.append(f"{fault}: {reason}")
            else:
                self.met[fault.kind] += 1
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

    def _end(self) -> list[str]:
        """Start the finished run once more, which changes nothing, and check what is there."""
        self._stop()
        before, log = self._log.read_bytes(), self.project.folder / "again.log"
        again = processes.start(partial(processes.serve, self.project.file), log, self.project.run, None)
        again.join(30)
        faults = self._refused_starts()
        faults += [] if again.exitcode == 0 else [f"a start of the finished run ended with {again.exitcode}"]
        again.kill()
        if self._log.read_bytes() != before:
            faults.append("a start of the finished run changed its log")
        return faults + check(self.finished())

    def _refused_starts(self) -> list[str]:
        """Return whether the server refused to start though nothing was wrong with its disk."""
        may = self.plan.of("server", ("full",)) or self.plan.of("project", ("no-space",))
        return ["the server refused to start"] if 2 in self.places["server"].ends and not may else []

    def finished(self) -> Finished:
        """Return what the run left, for the checker."""
        torn = frozenset(fault.where for fault in self.plan.faults if fault.kind in ("torn", "full"))
        kept = self.plan.server["keep_updates"] == "all"
        nodes = [self.nodes[name] for name in sorted(self.nodes)]
        return Finished(self.project.folder, self.plan.rounds, self.plan.quorum, kept, nodes, torn)

    def _stop(self) -> None:
        self._strikes.undo()
        for place in self.places.values():
            if place.process:
                place.process.join(0 if place.over else 1)
                place.process.kill()
                place.process.join()
        self._relay.kill()
        self._relay.join()

    def _said(self) -> list[str]:
        """Count the faults that processes met, and return the logs that hold a traceback."""
        logs = {path.name: path.read_text(errors="replace") for path in sorted(self.project.folder.glob("*.log"))}
        met = {line.removeprefix(MET) for text in logs.values() for line in text.splitlines() if line.startswith(MET)}
        self.met += Counter(fault.kind for fault in self.plan.faults if any(str(fault) in each for each in met))
        return [f"a traceback in {name}" for name, text in logs.items() if "Traceback" in text]
