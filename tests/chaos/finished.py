"""What holds of the log of a finished run, and of what its nodes were told, by an own reading of the files."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.identity.documents.roster import Roster
from common.identity.documents.signatures import Receipt, is_signed_reply, verify_signature
from common.identity.project_files import read_project_files
from tests.chaos import reference
from tests.helpers.server.exchange import NumpyNode

Entry = dict[str, Any]
_EXACT = 1e-9


@dataclass(frozen=True)
class Finished:
    """A project whose run is over.

    Args:
        folder: of the project, with `keys`, `nodes` and `server.toml`.
        rounds: of the run.
        quorum: fewest updates of a round.
        kept: whether the updates of all rounds are kept.
        nodes: all that took part.
        torn: names of nodes that were killed while they wrote, or whose disk was full.
    """

    folder: Path
    rounds: int
    quorum: int
    kept: bool
    nodes: Sequence[NumpyNode]
    torn: frozenset[str] = frozenset()
    limit: int = 5000

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "runs" / "first"

    @property
    def journal(self) -> Path:
        """The journal's folder."""
        return self.run / "journal"

    @property
    def lines(self) -> list[Entry]:
        """Every line of the log."""
        return [json.loads(line) for line in (self.journal / "log.jsonl").read_bytes().splitlines()]

    @property
    def roster(self) -> Roster:
        """The newest roster: who was revoked is still in it."""
        return read_project_files(self.folder / "keys").roster

    def updates(self) -> Iterator[tuple[Entry, int, list[Any]]]:
        """Yield the entry, the phase and the log's row of each accepted update."""
        for entry in self.lines:
            for phase, rows in enumerate(reference.phases(entry), 1):
                yield from ((entry, phase, row) for row in rows)


def chain(run: Finished) -> Iterator[str]:
    """Check that each line has the hash of the one before, and its own."""
    previous, data = "0" * 64, (run.journal / "log.jsonl").read_bytes()
    if not data.endswith(b"\n"):
        yield "the log does not end with a line"
    for number, line in enumerate(run.lines):
        body = {key: value for key, value in line.items() if key != "hash"}
        text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        if line["previous"] != previous or hashlib.sha256(text).hexdigest() != line["hash"]:
            yield f"line {number} does not follow"
        previous = line["hash"]


def rounds(run: Finished) -> Iterator[str]:
    """Check that rounds follow one another, from 0 to the last."""
    if (found := [line.get("round") for line in run.lines]) != [*range(run.rounds + 1)]:
        yield f"rounds {found}"


def members(run: Finished) -> Iterator[str]:
    """Check that each phase has a quorum of members, nobody twice, with weights that sum to 1."""
    admitted = run.roster.members.keys()
    for entry in run.lines[1:]:
        for rows in reference.phases(entry):
            names, where = [row[0] for row in rows], f"round {entry['round']}"
            if len({*names}) != len(names) or len(names) < run.quorum:
                yield f"{where}: {names} of a quorum of {run.quorum}"
            if strangers := {*names} - admitted:
                yield f"{where}: {strangers} are no members"
            if any(not 0 <= row[2] <= 1 or not 0 < row[5] <= 1 for row in rows):
                yield f"{where}: weights or clip factors beyond 1"
        if abs(sum(row[2] for row in reference.phases(entry)[-1]) - 1) > _EXACT:
            yield f"{where}: the weights do not sum to 1"


def signed(run: Finished) -> Iterator[str]:
    """Check that each accepted update was signed by its node, for this round and the adapter of the round before."""
    if not run.kept:
        return
    lines, roster = run.lines, run.roster
    for entry, phase, (name, blob_hash, _, signature, *_) in run.updates():
        kept = run.journal / "updates" / f"{entry['round']:06d}" / f"{phase}.{name}"
        values = json.loads(kept.with_name(kept.name + ".values").read_bytes())
        found = hashlib.sha256(kept.with_name(kept.name + ".update").read_bytes()).hexdigest()
        where, key = f"round {entry['round']}, {name}", roster.members[name].public_key
        if found != blob_hash or not is_signed_reply(values, found, roster.project, name, key):
            yield f"{where}: the signature does not hold"
        said = values["signature"], values["run"], values["round"], values["phase"], values["parent"]
        parent = lines[entry["round"] - 1]["adapter_hash"]
        if said != (signature, entry["config"], entry["round"], phase, parent):
            yield f"{where}: the update is of another round"


def receipts(run: Finished) -> Iterator[str]:
    """Check that what a node was told of its updates is signed by the server, and in the log."""
    key, lines = read_project_files(run.folder / "keys").receipt_key, run.lines
    for node in run.nodes:
        for text in _lines(run.folder / "nodes" / f"{node.name}.receipts"):
            try:
                said = json.loads(text)
            except ValueError:
                if node.name not in run.torn or text.count(b'"project"') > 1:
                    yield f"{node.name}: the receipt {text!r} is damaged"
                continue
            signature = bytes.fromhex(said.pop("signature"))
            if not verify_signature(Receipt(**said), signature, key):
                yield f"{node.name}: a receipt of round {said['round']} is not the server's"
            entry, told = lines[said["round"]], (said["node"], said["blob_hash"], said["weight"])
            logged = [(row[0], row[1], row[2]) for row in entry["accepted"]]
            if told not in logged or said["adapter_hash"] != entry["adapter_hash"]:
                yield f"{node.name}: the receipt of round {said['round']} is not in the log"


def told(run: Finished) -> Iterator[str]:
    """Check that what nodes were told of rounds is what the log says of them."""
    ends = ["", *(line["adapter_hash"] for line in run.lines)]
    for node in run.nodes:
        for text in _lines(run.folder / "nodes" / f"{node.name}.rounds"):
            try:
                said = json.loads(text)
            except ValueError:
                if node.name not in run.torn:
                    yield f"{node.name}: a line of what it was told is damaged"
                continue
            number = said["round"]
            if number > run.rounds or [said["parent"], said["adapter"]] != ends[number : number + 2]:
                yield f"{node.name}: it was told of another round {number} than the log has"


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []
