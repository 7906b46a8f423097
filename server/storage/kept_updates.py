"""The updates of committed rounds, kept for `fedlora verify`, which recomputes these rounds from them.

    journal/updates/000012/before.state        the state before round 12
                           PHASE.NODE.update   the factors of a valid reply, as received
                           PHASE.NODE.values   its plain values
                           round.json          SHA-256 of each of these files, and what else the round depended on

The log's line of the round holds the SHA-256 of `round.json` as `kept`. A folder is complete, or not there.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.atomic_files import link_or_copy, make_atomically, remove_folder, remove_leftovers
from common.disk_errors import naming_file
from common.errors import JournalError
from common.hash_chain import Entry
from common.plain_files import read_plain
from common.settings.recipe import KeepUpdates
from server.storage.checkpoints import digest
from server.storage.spool import spooled_updates

_FOLDER, _BEFORE, _MANIFEST = "updates", "before.state", "round.json"


def keep_round(journal: Path, number: int, before: Path, facts: Mapping[str, Any]) -> str:
    """Keep the spooled replies of a round that is about to be committed; return the SHA-256 of its `round.json`.

    Args:
        journal: its folder.
        number: of the round.
        before: checkpoint of the round before.
        facts: what else the round depended on, in JSON's types.

    Raises:
        OSError: something cannot be written; nothing is kept.
    """
    forget_round(journal, number)
    folder = kept_folder(journal, number)
    folder.parent.mkdir(exist_ok=True)
    with make_atomically(folder) as made:
        made.mkdir()
        link_or_copy(made / _BEFORE, before)
        for name, update, values in spooled_updates(journal / "spool"):
            link_or_copy(made / f"{name}.update", update)
            link_or_copy(made / f"{name}.values", values)
        files = {path.name: digest(path) for path in sorted(made.iterdir())}
        manifest = json.dumps({**facts, "files": files}, sort_keys=True).encode()
        with naming_file(folder / _MANIFEST, lambda: len(manifest)):
            (made / _MANIFEST).write_bytes(manifest)
    return hashlib.sha256(manifest).hexdigest()


def forget_round(journal: Path, number: int) -> None:
    """Remove what is kept of a round.

    Raises:
        OSError: something cannot be removed.
    """
    if kept_folder(journal, number).exists():
        remove_folder(kept_folder(journal, number))


def kept_folder(journal: Path, number: int) -> Path:
    """Return the folder of a round."""
    return journal / _FOLDER / f"{number:06d}"


def kept_rounds(journal: Path) -> Sequence[int]:
    """Return the numbers of the rounds of which something is kept, in order."""
    folders = (journal / _FOLDER).glob("[0-9]*") if (journal / _FOLDER).is_dir() else ()
    return sorted(int(path.name) for path in folders if path.name.isdecimal())


def tidy_updates(journal: Path, rounds: int, keep: KeepUpdates) -> None:
    """Remove what is kept of rounds beyond the last of `rounds`, and of older ones than are to be kept.

    Raises:
        OSError: something cannot be removed.
    """
    if not (journal / _FOLDER).is_dir():
        return
    remove_leftovers(journal / _FOLDER)
    oldest = {"all": 0, "none": rounds}[keep] if isinstance(keep, str) else rounds - keep
    for number in kept_rounds(journal):
        if not oldest <= number < rounds:
            forget_round(journal, number)


def checkpoint_before(journal: Path, number: int) -> Path:
    """Return the file for the state before a kept round."""
    return kept_folder(journal, number) / _BEFORE


def read_kept(journal: Path, entry: Entry) -> dict[str, Any] | None:
    """Return the facts of a kept round, having checked its files; None if it is not kept.

    Args:
        journal: its folder.
        entry: of the round.

    Raises:
        JournalError: a file was changed or is missing; names it and the round.
        FileNotFoundError: the folder was removed meanwhile.
    """
    folder = kept_folder(journal, entry["round"])
    if not folder.is_dir():
        return None
    if _digest_of(folder / _MANIFEST, entry) != entry.get("kept"):
        raise _damaged(folder / _MANIFEST, entry, "changed")
    facts: dict[str, Any] = json.loads(read_plain(folder / _MANIFEST))
    for name, expected in facts["files"].items():
        if _digest_of(folder / name, entry) != expected:
            raise _damaged(folder / name, entry, "changed")
    return facts


def kept_replies(folder: Path, facts: Mapping[str, Any]) -> Iterator[tuple[int, str, Path, Path]]:
    """Yield phase, node, factors and values of each kept reply of a round."""
    for file in facts["files"]:
        stem, _, kind = file.rpartition(".")
        if kind == "values":
            phase, _, name = stem.partition(".")
            yield int(phase), name, folder / f"{stem}.update", folder / file


def _digest_of(path: Path, entry: Entry) -> str:
    try:
        return digest(path)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        raise _damaged(path, entry, "missing") from None


def _damaged(path: Path, entry: Entry, condition: str) -> JournalError:
    return JournalError(
        f"{path} (round {entry['round']}) is {condition}, so the round cannot be recomputed; restore it from a "
        f"copy, or remove {path.parent}, and the round is checked by the log alone"
    )
