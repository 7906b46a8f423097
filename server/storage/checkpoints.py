"""The checkpoint files of a journal: one per committed round, of which the newest two are kept."""

import hashlib
from collections.abc import Mapping, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal

from common.adapters.adapter import Adapter
from common.adapters.codec import DecodeLimits, decode_adapter, write_adapter
from common.adapters.joined import join_adapters, split_adapters
from common.atomic_files import open_atomically, remove_leftovers
from common.errors import JournalError
from server.storage.disk_adapter import back_by_file
from server.storage.hash_chain import Entry


def checkpoint_path(folder: Path, number: int) -> Path:
    """Return the path of the state after round `number`."""
    return folder / f"round-{number:06d}.state"


def save_checkpoint(path: Path, parts: Mapping[str, Adapter]) -> str:
    """Write the parts of a state to `path` in float64, module by module, and return the file's SHA-256.

    Raises:
        OSError: it was not written.
    """
    with open_atomically(path) as file:
        write_adapter(file, join_adapters(**parts), "f64")
    return _digest(path)


def load_checkpoint(path: Path) -> dict[str, Adapter]:
    """Load the parts of a state, in float64, read from the file module by module; one without modules is absent.

    Raises:
        OSError, CodecError: the file was not written by `save_checkpoint`.
    """
    with path.open("rb") as file:
        view = mmap(file.fileno(), 0, access=ACCESS_READ)
    # Unchecked, since the journal has checked the file's hash.
    joined = decode_adapter(view, DecodeLimits(max_bytes=len(view)), check=False)
    return {part: back_by_file(path, view, adapter) for part, adapter in split_adapters(joined).items()}


def check_checkpoints(folder: Path, entries: Sequence[Entry]) -> None:
    """Compare the checkpoints with the hashes in a journal's entries; the last but one may be missing.

    Raises:
        JournalError: one was changed, is missing, or is later than the entries; names it and the last good round.
    """
    # The log is written after its checkpoint; one round ahead is a crash in between, more is a log that was cut.
    beyond = [path for path in folder.glob("round-*.state") if path > checkpoint_path(folder, len(entries))]
    if beyond:
        raise JournalError(f"{min(beyond)} has no line in the log, which lost its end; restore the log from a copy")
    conditions = {entry["round"]: _condition(folder, entry) for entry in entries[-2:]}
    good = max((number for number, condition in conditions.items() if condition == "intact"), default=None)
    last = len(entries) - 1
    for number, condition in conditions.items():
        if condition == "changed" or (condition == "missing" and number == last):
            raise JournalError(
                f"{checkpoint_path(folder, number)} (round {number}) is {condition}; {_remedy(last, good)}"
            )


def tidy_checkpoints(folder: Path, entries: Sequence[Entry]) -> None:
    """Remove checkpoints older than the newest two, those without an entry, and temporary files."""
    kept = [checkpoint_path(folder, entry["round"]) for entry in entries[-2:]]
    for path in folder.glob("round-*"):
        if path not in kept:
            path.unlink()
    remove_leftovers(folder)


def _condition(folder: Path, entry: Entry) -> Literal["intact", "changed", "missing"]:
    try:
        digest = _digest(checkpoint_path(folder, entry["round"]))
    except FileNotFoundError:
        return "missing"
    return "intact" if digest == entry["state_hash"] else "changed"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remedy(last: int, good: int | None) -> str:
    if good is None:
        return "no good round is left; restore the file from a copy"
    if good == last:
        return f"the last good round is {good} and does not need the file; remove it"
    return f"the last good round is {good}; restore the file from a copy, or remove the last line of the log"
