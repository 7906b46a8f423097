"""The earlier rounds to which a run can go back: those whose checkpoint is there and intact."""

from collections.abc import Sequence
from pathlib import Path

from common.errors import JournalError
from common.hash_chain import Entry
from server.storage import checkpoints, kept_updates


def find_checkpoint(folder: Path, entry: Entry) -> Path | None:
    """Return an intact file of the state after a round, in the journal in this folder."""
    number = entry["round"]
    places = checkpoints.checkpoint_path(folder, number), kept_updates.checkpoint_before(folder, number + 1)
    return next((place for place in places if checkpoints.is_intact(place, entry)), None)


def reachable(folder: Path, entries: Sequence[Entry]) -> list[int]:
    """Return the numbers of the rounds before the last one that can be reached, in order."""
    return [entry["round"] for entry in entries[:-1] if find_checkpoint(folder, entry)]


def check_return(folder: Path, entries: Sequence[Entry], number: int) -> None:
    """Check that a run can go back to round `number`.

    Raises:
        JournalError: it is the last one already, or its checkpoint is not there or damaged; names those in reach.
    """
    last, within_reach = len(entries) - 1, reachable(folder, entries)
    if number in within_reach:
        return
    listed = ", ".join(map(str, within_reach)) or "none"
    if number == last:
        fault = f"round {last} is the last one, so there is nothing to leave"
    else:
        fault = f"{folder} has no intact checkpoint of round {number} ([server] keep_updates keeps more)"
    raise JournalError(
        f"--from-round {number}: {fault}; start the server without --from-round, or go back to one of these "
        f"rounds: {listed}"
    )
