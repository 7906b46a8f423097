"""The quorum of a round: waits for enough nodes before the first, and describes a round that had too few."""

import time
from collections.abc import Mapping

from common.errors import RunError
from server.rounds.messenger import Messenger
from server.rounds.metrics import ClientMetrics
from server.rounds.observer import RunObserver

POLL = 0.5
"""Seconds between two checks for connected nodes."""
PAUSE = 5.0
"""Seconds before the second attempt at a round; each further attempt waits longer by the same time."""


def wait_for_nodes(messenger: Messenger, quorum: int, observer: RunObserver, poll: float = POLL) -> None:
    """Wait until `quorum` nodes are connected; the observer is notified whenever their number has changed."""
    reported = None
    while (connected := len(list(messenger.nodes()))) < quorum:
        if connected != reported:
            observer.on_waiting(connected, quorum)
        reported = connected
        time.sleep(poll)


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
    return RunError(
        f"{what}{tried}{why}; round {number - 1} is intact: fix the cause, then run again (a simulation: with --resume)"
        f"{hint}"
    )
