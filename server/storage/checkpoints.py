"""The checkpoint files of a journal: one per committed round, of which the newest two are kept."""

import hashlib
from collections.abc import Mapping, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Literal

from common.adapters.adapter import Adapter
from common.adapters.codec import DecodeLimits, decode_adapter, write_adapter
from common.adapters.joined import join_adapters, split_adapters
from common.atomic_files import link_or_copy, make_atomically, open_atomically, remove_leftovers
from common.disk_errors import naming_file
from common.errors import CodecError, JournalError
from common.hash_chain import Chain, Entry
from common.plain_files import open_plain
from server.storage.disk_adapter import back_by_file


def checkpoint_path(folder: Path, number: int) -> Path:
    """Return the path of the state after round `number`."""
    return folder / f"round-{number:06d}.state"


def save_checkpoint(path: Path, parts: Mapping[str, Adapter]) -> str:
    """Write the parts of a state to `path` in float64, module by module, and return the file's SHA-256.

    Raises:
        OSError: it was not written.
    """
    joined = join_adapters(**parts)
    with naming_file(path, lambda: _size(joined)), open_atomically(path) as file:
        write_adapter(file, joined, "f64")
    return digest(path)


def _size(adapter: Adapter) -> int:
    return sum(8 * (factors.a.size + factors.b.size) for factors in adapter.values())


def load_checkpoint(path: Path) -> dict[str, Adapter]:
    """Load the parts of a state, in float64, read from the file module by module; one without modules is absent.

    Raises:
        OSError, CodecError: the file was not written by `save_checkpoint`.
    """
    with open_plain(path) as file:
        if not path.stat().st_size:
            raise CodecError(f"{path} is empty; restore it from a copy")
        view = mmap(file.fileno(), 0, access=ACCESS_READ)
    # Unchecked, since the journal has checked the file's hash.
    joined = decode_adapter(view, DecodeLimits(max_bytes=len(view)), check=False)
    return {part: back_by_file(path, view, adapter) for part, adapter in split_adapters(joined).items()}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_checkpoints(folder: Path, chain: Chain) -> None:
    """Compare the checkpoints with the hashes in a journal's entries; the last but one may be missing.

    Raises:
        JournalError: one was changed, is missing, or is later than the entries; names it and the last good round.
    """
    # The log is written after its checkpoint; one round ahead is a crash in between, more is a log that was cut, or
    # a crash before the checkpoints of rounds that were left were removed.
    entries, left = chain.entries, chain.returned["left"] if chain.returned else 0
    beyond = [path for path in folder.glob("round-*.state") if path > checkpoint_path(folder, len(entries) + left)]
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


def restore_checkpoint(folder: Path, number: int, source: Path | None) -> None:
    """Put the checkpoint of a round back where it was, if it is elsewhere.

    Raises:
        OSError: it cannot be written.
    """
    path = checkpoint_path(folder, number)
    if source not in (None, path):
        with make_atomically(path) as made:
            link_or_copy(made, source)


def is_intact(path: Path, entry: Entry) -> bool:
    """Return whether a file is the state after the round of this entry."""
    return path.is_file() and digest(path) == entry["state_hash"]


def _condition(folder: Path, entry: Entry) -> Literal["intact", "changed", "missing"]:
    try:
        found = digest(checkpoint_path(folder, entry["round"]))
    except FileNotFoundError:
        return "missing"
    return "intact" if found == entry["state_hash"] else "changed"


def _remedy(last: int, good: int | None) -> str:
    if good is None:
        return "no good round is left; restore the file from a copy"
    if good == last:
        return f"the last good round is {good} and does not need the file; remove it"
    return f"the last good round is {good}; restore the file from a copy, or remove the last line of the log"
