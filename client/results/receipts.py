"""What a node can check of a run by itself: the saved update, the server's signatures, and the rounds that it was told.

Only what the server signed or told this node is known: whether the sum is right is for `fedlora verify` at the server.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from client.network.told_rounds import ToldRound, ToldRounds
from client.results.folder import NodeFolder
from client.results.saved_adapter import SavedUpdate
from common.atomic_files import write_file
from common.errors import JournalError
from common.identity.credentials import NodeCredentials, load_node_credentials
from common.identity.documents.signatures import Ending, Receipt, Statement, verify_signature
from common.plain_files import read_plain
from common.settings.node import Node

REMEDY = "restore it from a copy, or ask the server's operator"


_OLDER = "{} is not yet of this round: the node was killed as it saved it; `export` makes one of the update"


def run_receipts(path: Path, run: str) -> dict[int, dict[str, Any]]:
    """Return the receipts of a run in a file, by round: of a round that was repeated, the last; cut lines are left out.

    Raises:
        OSError: the file cannot be read.
    """
    lines = read_plain(path).splitlines() if path.exists() else []
    found = [each for each in map(_object, lines) if each.get("run") == run and type(each.get("round")) is int]
    return {each["round"]: each for each in found}


def copy_receipts(folder: NodeFolder, node: Node) -> list[dict[str, Any]]:
    """Copy the receipts of the run from the node's keys to its folder, and return them.

    Raises:
        OSError: they cannot be read or written.
    """
    found = list(run_receipts(Path(node.keys) / f"{node.name}.receipts", folder.run).values())
    write_file(folder.path / "receipts.jsonl", b"".join(json.dumps(each).encode() + b"\n" for each in found))
    return found


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def verify_saved(path: Path) -> list[str]:
    """Check the folder of a node's run, and return what was checked, one line for each part. Changes nothing.

    Raises:
        JournalError: a file was changed, or is not what the server signed or told; names file and round.
        IdentityError: the node's keys, by which signatures are checked, cannot be read.
    """
    folder = NodeFolder.open(path)
    if (update := folder.update) is None:
        return ["intact: no global update yet"]
    try:
        change, is_made = folder.foreign_file(), folder.changed_file() is None
    except OSError as error:
        raise JournalError(f"{path / 'adapter'} cannot be read: {error}; {REMEDY}") from None
    if change:
        raise JournalError(f"{change}: it is not what round {update.round} gave; {REMEDY}")
    node = folder.node
    own = load_node_credentials(Path(node.keys), node.name)
    told = ToldRounds(Path(node.keys) / f"{node.name}.rounds").of(folder.run)
    receipts = run_receipts(path / "receipts.jsonl", folder.run)
    _check_receipts(path / "receipts.jsonl", receipts.values(), own, told)
    return [
        f"intact: round {update.round}, adapter {update.digest}",
        *([] if is_made else [_OLDER.format(path / "adapter")]),
        _signed(path / "update", update, own, folder.run, receipts),
        _followed(path / "update", update, told),
        f"{len(receipts)} receipts are signed by the server's key",
    ]


def _check_receipts(
    path: Path, receipts: Iterable[Mapping[str, Any]], own: NodeCredentials, told: Mapping[int, ToldRound]
) -> None:
    names = {each.name for each in fields(Receipt)}
    for each in receipts:
        number = each["round"]
        try:
            statement = Receipt(**{name: value for name, value in each.items() if name in names})
            signed = _is_signed(statement, str(each["signature"]), own)
        except (KeyError, TypeError, ValueError):
            signed = False
        if not signed:
            raise JournalError(f"{path}: the receipt of round {number} is not signed by the server's key; {REMEDY}")
        if number in told and told[number].adapter != each["adapter_hash"]:
            raise JournalError(
                f"{path}: by the receipt round {number} ended with adapter {each['adapter_hash']:.12}, and this node "
                f"was told {told[number].adapter:.12}; ask the server's operator"
            )


def _signed(
    path: Path, update: SavedUpdate, own: NodeCredentials, run: str, receipts: Mapping[int, Mapping[str, Any]]
) -> str:
    if not update.signature:
        receipt = receipts.get(update.round, {})
        is_named = receipt.get("adapter_hash") == update.digest
        by = f"the receipt of round {update.round}, signed by it, names it" if is_named else "no receipt names it"
        return f"not signed by the server as the last adapter of the run; {by}"
    ending = Ending(project=own.project, run=run, round=update.round, adapter_hash=update.digest)
    if not _is_signed(ending, update.signature, own):
        raise JournalError(f"{path}: the server's key has not signed that the run ended with it; {REMEDY}")
    return "signed by the server as the last adapter of the run"


def _is_signed(statement: Statement, signature: str, own: NodeCredentials) -> bool:
    try:
        return verify_signature(statement, bytes.fromhex(signature), own.receipt_public_key)
    except ValueError:
        return False


def _followed(path: Path, update: SavedUpdate, told: Mapping[int, ToldRound]) -> str:
    """Return how many of the told rounds follow one another; those that the node missed are gaps."""
    for number, each in told.items():
        if number - 1 in told and told[number - 1].adapter != each.parent:
            raise JournalError(f"round {number} does not start from what round {number - 1} ended with; {REMEDY}")
    if update.round in told and told[update.round].adapter != update.digest:
        raise JournalError(
            f"{path} has adapter {update.digest:.12}, and this node was told that round {update.round} ended with "
            f"{told[update.round].adapter:.12}; {REMEDY}"
        )
    return f"{len(told)} rounds that the server told follow one another"
