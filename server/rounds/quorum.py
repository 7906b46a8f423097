"""The quorum of a round: waits until enough nodes are ready, and describes a round that had too few updates.

Also what becomes of nodes that are there and silent: a question waits for them for a while, and they get fewer.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from common.errors import FedloraError, JournalError, RunError
from server.links.grace import LEAST_GRACE, Grace
from server.metrics.clients import ClientMetrics
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants
from server.rounds.run_settings import RunSettings

SHORTEST, LONGEST = 0.001, 0.5
"""Seconds between two looks at the nodes: a twentieth of the time waited, within these."""
REPEAT = 60.0
"""Seconds after which the observer is told again of a wait, and nodes whose announcement failed are asked again."""
PAUSE = 5.0
"""Seconds before the second attempt at a round; each further attempt waits longer by the same time."""
LONGEST_REST = 16
"""Most rounds in which a silent node is not asked."""


class TooFewUpdatesError(RunError):
    """A round had too few updates in every attempt."""


@dataclass(frozen=True)
class _Rest:
    """The rest of a silent node: its number, the rounds left out, and the round in which it is asked again."""

    node: int
    rounds: int
    until: int


class Silence:
    """The nodes that neither answered nor reported: each is left out of 1, 2, 4, ... rounds, until it answers.

    Args:
        participants: of the run; their `resting` is kept up to date.
        settings: of the run.
        observer: told of each silent node.
    """

    def __init__(self, participants: Participants, settings: RunSettings, observer: RunObserver) -> None:
        self._participants, self._settings, self._observer = participants, settings, observer
        self._rests: dict[str, _Rest] = {}
        self._slowest: float | None = None

    def grace(self, number: int, enough: int, entries: Iterable[Mapping[str, Any]]) -> Grace:
        """Return the grace of a question of round `number`, after the rounds of these lines of the log."""
        if number <= 1:  # Nothing is known of how long an answer takes.
            return Grace(enough, None)
        slowest = self._slowest
        if slowest is None:  # A server that has just started knows how long whole rounds took.
            slowest = median([entry["metrics"]["seconds"] for entry in entries][1:] or [0.0])
        return Grace(enough, self._settings.grace or max(LEAST_GRACE, 2 * slowest))

    def take(self, number: int, asked: Mapping[int, str], grace: Grace) -> None:
        """Note which of the nodes that were asked in round `number`, by number, were silent, and the slowest answer."""
        self._slowest = max(self._slowest or 0.0, grace.slowest)
        silent = {asked[node] for node in grace.silent}
        for name in asked.values():
            before = self._rests.pop(name, None)
            if name in silent and name in self._participants.ids:
                rounds = min(2 * before.rounds, LONGEST_REST) if before else 1
                self._rests[name] = _Rest(self._participants.ids[name], rounds, number + rounds + 1)
                self._observer.on_silent(name, number, self._rests[name].until)

    def rests(self, name: str, number: int) -> bool:
        """Return whether this node is not asked in round `number`."""
        return name in self._rests and self._rests[name].until > number

    def available(self, number: int) -> list[str]:
        """Return the ready nodes to ask in round `number`; resting ones only where too few others are ready.

        A node that has connected again rests no more.
        """
        ids, quorum = self._participants.ids, self._settings.quorum
        self._rests = {name: rest for name, rest in self._rests.items() if ids.get(name) == rest.node}
        resting = {name: rest.until for name, rest in self._rests.items() if self.rests(name, number)}
        names = [name for name in self._participants.nodes if name not in resting]
        needed = sorted(resting, key=lambda name: (resting[name], name))[: max(0, quorum - len(names))]
        self._participants.resting = {name: until for name, until in resting.items() if name not in needed}
        return [*names, *needed]


@dataclass(frozen=True)
class Waiting:
    """The grace of questions about a round's state, and what becomes of nodes that are silent in them.

    Args:
        silence: of the nodes.
        number: of the round.
        enough: number of replies that count.
        entries: of the log.
    """

    silence: Silence
    number: int
    enough: int
    entries: Iterable[Mapping[str, Any]]

    def grace(self) -> Grace:
        """Return the grace of a question."""
        return self.silence.grace(self.number, self.enough, self.entries)

    def take(self, nodes: Mapping[int, str], grace: Grace) -> None:
        """Note which of the nodes that were asked were silent."""
        self.silence.take(self.number, nodes, grace)


def wait_for_quorum(
    participants: Participants, settings: RunSettings, observer: RunObserver, settle: float = 0.0
) -> None:
    """Wait until `quorum` nodes are ready, and then up to `settle` seconds for those that are connected and load.

    The observer is told of the nodes' states when they change, and now and then.

    Raises:
        RunError: too few are ready after `patience` seconds.
        JournalError: none is, since all have another base.
    """
    began, enough = time.monotonic(), None
    told: Mapping[str, str] | None = None
    told_at = began
    participants.refresh(again=True)
    while not _is_settled(participants, settings.quorum, enough, settle):
        now, states = time.monotonic(), participants.states()
        enough = (enough or now) if len(participants.nodes) >= settings.quorum else None
        late = now - told_at >= REPEAT
        if states != told or late:
            observer.on_waiting(states, settings.quorum)
            told, told_at = states, now
        if enough is None and now - began >= settings.patience and not (settle == inf and participants.loading()):
            raise _too_few(participants, settings)
        time.sleep(min(max((now - began) / 20, SHORTEST), LONGEST))
        participants.refresh(again=late)
    observer.on_nodes(participants.states())


def _too_few(participants: Participants, settings: RunSettings) -> FedloraError:
    states = participants.states()
    if bases := participants.other_bases():
        return JournalError(
            "the run's base, tokenizer, targets or labels have fingerprint "
            f"{participants.model.description.fingerprint}, but those of {', '.join(bases)} have others; "
            "give the nodes what the run began with"
        )
    who = ", ".join(f"{name}: {state}" for name, state in states.items()) or "none is connected"
    waited = f" after patience = {settings.patience:g} s" if settings.patience else ""
    return RunError(f"{len(participants.nodes)} of {settings.quorum} nodes are ready{waited} ({who}); start the others")


def _is_settled(participants: Participants, quorum: int, enough: float | None, settle: float) -> bool:
    """Return whether enough nodes are ready, and none is waited for any more."""
    if len(participants.nodes) < quorum:
        return False
    return not participants.loading() or (enough is not None and time.monotonic() - enough >= settle)


def questions_error(settings: RunSettings, is_planned: bool) -> RunError:
    """Return the error of a run that cannot begin, since too few nodes answered what is asked before round 1."""
    what, needed, remedy = "head in closed form could be made", "class sums", 'set [lora] head = "trained"'
    if not is_planned:
        what, needed, remedy = "ranks under [lora] budget could be agreed on", "energies", "remove [lora] budget"
    return RunError(
        f"no {what} in {settings.attempts} attempts, for which the {needed} of {settings.quorum} nodes are needed; see "
        f"the nodes' logs, or {remedy}"
    )


def rejection_reasons(clients: Mapping[str, ClientMetrics]) -> dict[str, str]:
    """Return the reason word for each client that does not count, by name."""
    return {client.name: client.reason for client in clients.values() if client.reason}


def quorum_error(number: int, clients: Mapping[str, ClientMetrics], quorum: int, attempts: int) -> TooFewUpdatesError:
    """Return the error for a round with too few updates, with the reason for each client in the last attempt."""
    words = rejection_reasons(clients)
    what = f"every client of round {number} was rejected"
    if len(words) < len(clients):
        what = f"round {number} needs {quorum} updates, but {len(clients) - len(words)} of {len(clients)} nodes count"
    tried = f" in the last of {attempts} attempts" if attempts > 1 else ""
    why = f" ({', '.join(f'{name}: {word}' for name, word in words.items())})" if words else ""
    hint = " (nan: the training diverged; a new run with a lower [train] lr may not)" if "nan" in words.values() else ""
    return TooFewUpdatesError(f"{what}{tried}{why}; round {number - 1} is intact: fix the cause{hint}")
