"""Replays what a finished run left behind, by its own reading of the files, and says what does not hold."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.errors import FedloraError
from common.huggingface.peft_folder import read_peft_folder
from server.rounds.log_line import adapter_hash
from server.verify import verify_run
from tests.chaos import reference
from tests.chaos.finished import Finished, chain, members, receipts, rounds, signed, told


def check(run: Finished) -> list[str]:
    """Return what does not hold, a line each; what cannot be read does not hold either."""
    found = []
    for each in CHECKS:
        try:
            found += [f"{each.__name__}: {fault}" for fault in each(run)]
        except (FedloraError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            found.append(f"{each.__name__}: {error!r}")
    return found


def adapter(run: Finished) -> Iterator[str]:
    """Check that the published adapter, the last checkpoints and the log agree."""
    *_, before, last = run.lines
    folder, files = run.run / "adapter", last["files"]
    if {path.name: _digest(path) for path in folder.iterdir()} != files:
        yield "the files of adapter/ are not those of the log"
    if adapter_hash(read_peft_folder(folder).adapter) != last["adapter_hash"]:
        yield "adapter/ is not the log's adapter"
    states = {path.name: _digest(path) for path in run.journal.glob("round-*")}
    if states != {line["state"]: line["state_hash"] for line in (before, last)}:
        yield "the checkpoints are not those of the last two rounds"


def metrics(run: Finished) -> Iterator[str]:
    """Check that metrics.jsonl has each round once, as the log has it."""
    written = [json.loads(line) for line in (run.run / "metrics.jsonl").read_bytes().splitlines()]
    if written != [line["metrics"] for line in run.lines]:
        yield "metrics.jsonl is not the log's"


def leftovers(run: Finished) -> Iterator[str]:
    """Check that nothing is left of what was interrupted."""
    spooled = [*(run.journal / "spool").iterdir()]
    if left := [*spooled, *run.run.rglob(".*.tmp"), *(run.folder / "keys").glob(".*.tmp")]:
        yield ", ".join(str(path.relative_to(run.folder)) for path in left)


def kept_rounds(run: Finished) -> Iterator[str]:
    """Check that the updates of every round are kept, or of none."""
    updates = run.journal / "updates"
    there = sorted(path.name for path in updates.iterdir()) if updates.is_dir() else []
    if there != [f"{number:06d}" for number in range(1, run.rounds + 1) if run.kept]:
        yield f"kept are {there}"


def same_bits(run: Finished) -> Iterator[str]:
    """Check that the same nodes in each round give the same adapters, updates, weights and norms without faults."""
    with TemporaryDirectory(dir=run.folder) as scratch:
        again = reference.run_again(
            Path(scratch) / "journal", run.folder / "server.toml", run.lines, run.nodes, run.limit
        )
    for line, clean in zip(run.lines, again, strict=True):
        if line["adapter_hash"] != clean["adapter_hash"]:
            yield f"round {line['round']}: another adapter than the faultless run's"
        if _unsigned(line) != _unsigned(clean):
            yield f"round {line['round']}: other updates, weights or norms than the faultless run's"


def verified(run: Finished) -> Iterator[str]:
    """Check that `fedlora verify` agrees."""
    verify_run(run.run)
    yield from ()


CHECKS: Sequence[Callable[[Finished], Iterator[str]]] = (
    *(chain, rounds, members, signed, receipts, told),
    *(adapter, metrics, leftovers, kept_rounds, same_bits, verified),
)


def _unsigned(entry: Mapping[str, Any]) -> list[list[list[Any]]]:
    return [[[*row[:3], *row[4:]] for row in rows] for rows in reference.phases(entry)]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
