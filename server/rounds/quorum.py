"""The quorum of a round: waits until enough nodes are ready, and describes a round that had too few updates."""

import time
from collections.abc import Mapping
from math import inf

from common.errors import FedloraError, JournalError, RunError
from server.rounds.metrics import ClientMetrics
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants
from server.rounds.run_settings import RunSettings

SHORTEST, LONGEST = 0.001, 0.5
"""Seconds between two looks at the nodes: a twentieth of the time waited, within these."""
REPEAT = 60.0
"""Seconds after which the observer is told again of a wait, and nodes whose announcement failed are asked again."""
PAUSE = 5.0
"""Seconds before the second attempt at a round; each further attempt waits longer by the same time."""


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


def rejection_reasons(clients: Mapping[str, ClientMetrics]) -> dict[str, str]:
    """Return the reason word for each client that does not count, by name."""
    return {client.name: client.reason for client in clients.values() if client.reason}


def quorum_error(number: int, clients: Mapping[str, ClientMetrics], quorum: int, attempts: int) -> RunError:
    """Return the error for a round with too few updates, with the reason for each client in the last attempt."""
    words = rejection_reasons(clients)
    what = f"every client of round {number} was rejected"
    if len(words) < len(clients):
        what = f"round {number} needs {quorum} updates, but {len(clients) - len(words)} of {len(clients)} nodes count"
    tried = f" in the last of {attempts} attempts" if attempts > 1 else ""
    why = f" ({', '.join(f'{name}: {word}' for name, word in words.items())})" if words else ""
    hint = " (nan: the training diverged; a new run with a lower [train] lr may not)" if "nan" in words.values() else ""
    return RunError(f"{what}{tried}{why}; round {number - 1} is intact: fix the cause{hint}")
