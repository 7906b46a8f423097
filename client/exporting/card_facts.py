"""What a model card tells of a run, from `config.toml`, `metrics.jsonl` and the log; each of them may be missing.

Names of nodes stay in the run: the card counts them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.exporting.uniform import Truncation
from common.errors import JournalError
from common.hash_chain import Chain, read_chain
from common.plain_files import read_plain
from common.report.records import MEASURES
from common.settings.reader import read_toml

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """What an export wrote: lines to tell, and, of an adapter, its rank and what a smaller rank left out."""

    lines: tuple[str, ...]
    rank: int | None = None
    truncation: Truncation | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Measure:
    """A number of the run before its first round and after its last."""

    name: str
    first: float
    last: float


@dataclass(frozen=True)
class Facts:
    """A run in numbers; None or nothing where its folder does not tell.

    Args:
        settings: keys that shape the update, by name.
        rounds: committed after round 0.
        nodes: that took part.
        rows: of all nodes.
        ranks: of the nodes, rising.
        measures: losses and accuracy.
        hashes: fingerprint of the base, hashes of the update and of the log's last line, by name.
    """

    settings: Mapping[str, str]
    rounds: int | None
    nodes: int
    rows: int
    ranks: tuple[int, ...]
    measures: tuple[Measure, ...]
    hashes: Mapping[str, str]


def read_facts(run: Path) -> Facts:
    """Read the facts of a run.

    Raises:
        JournalError: its metrics or its log were changed.
        ConfigError: its settings cannot be read.
    """
    file = run / "metrics.jsonl"
    try:
        return _facts(run, _records(file))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise JournalError(f"{file}: a line lacks what a release writes ({error!r}); resume the run once") from None


def _facts(run: Path, records: Sequence[Record]) -> Facts:
    clients = {}
    for client in (client for record in records for client in record.get("clients", ())):
        clients[client["name"]] = client
    return Facts(
        settings=_settings(run / "config.toml"),
        rounds=records[-1]["round"] if records else None,
        nodes=len(clients),
        rows=sum(client.get("rows") or 0 for client in clients.values()),
        ranks=tuple(sorted({client["rank"] for client in clients.values() if client.get("rank")})),
        measures=tuple(_measures(records)),
        hashes=_hashes(_chain(run / "journal" / "log.jsonl")),
    )


def _settings(file: Path) -> dict[str, str]:
    tables = read_toml(file, links=False) if file.is_file() else {}
    keys = {"algorithm": ("server", "algorithm"), "alpha": ("lora", "alpha"), "targets": ("lora", "targets")}
    found = {name: (tables.get(table) or {}).get(key) for name, (table, key) in keys.items()}
    return {name: str(value) for name, value in found.items() if value is not None}


def _records(file: Path) -> list[Record]:
    return [json.loads(line) for line in read_plain(file).splitlines()] if file.is_file() else []


def _measures(records: Sequence[Record]) -> Iterable[Measure]:
    values = {
        "loss on test rows": [record.get("test_loss") for record in records],
        **{
            f"{each.name} on test rows": [record.get(f"test_{key}") for record in records]
            for key, each in MEASURES.items()
        },
        "mean loss on the nodes' held-out rows": [_held_out(record) for record in records],
    }
    for name, series in values.items():
        if known := [value for value in series if value is not None]:
            yield Measure(name, float(known[0]), float(known[-1]))


def _held_out(record: Record) -> float | None:
    losses = [c["loss_after"] for c in record.get("clients", ()) if c.get("loss_after") is not None]
    return sum(losses) / len(losses) if losses else None


def _chain(log: Path) -> Chain:
    return read_chain(read_plain(log), log) if log.is_file() else Chain()


def _hashes(chain: Chain) -> dict[str, str]:
    if not chain.entries:
        return {}
    last = chain.entries[-1]
    found = {"fingerprint of the base": last.get("base"), "hash of the update": last.get("adapter_hash")}
    return {name: str(value) for name, value in found.items() if value} | {"last line of the run's log": chain.tip}
