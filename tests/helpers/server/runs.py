"""Whole runs over an exchange in memory."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.adapters.adapter import Adapter
from common.huggingface.model_description import ModelDescription
from common.huggingface.new_head import HeadModule
from common.settings.recipe import LoraSettings, Server, Train
from server.algorithms.weighting import Limit
from server.links.messenger import Messenger
from server.rounds.evaluation import Test
from server.rounds.loop import RoundLoop
from server.rounds.observer import RunObserver
from server.rounds.participants import RunModel
from server.rounds.run_settings import RunSettings
from server.storage.journal import Journal
from tests.helpers.server.exchange import HEAD, MemoryExchange, NumpyNode, described

Act = Callable[[int], Any]
Entries = tuple[dict[str, Any], ...]

FOUR = (NumpyNode("ada", 8), NumpyNode("bob", 1, rows=20), NumpyNode("cyd", 2, rows=5), NumpyNode("eve", 4, rows=40))
"""Four nodes of four ranks."""


class Each(RunObserver):
    """Does something as each round starts, or once it is committed; told its number."""

    def __init__(self, started: Act = lambda number: None, committed: Act = lambda number: None) -> None:
        self._started, self._committed = started, committed

    def on_round_started(self, number: int, clients: int) -> None:
        self._started(number)

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        self._committed(record["round"])


class Unpublished:
    """Publishes nothing."""

    def prepare(self, adapter: Adapter, model: ModelDescription) -> dict[str, Any]:
        return {}

    def publish(self, adapter: Adapter, model: ModelDescription, entry: Mapping[str, Any]) -> None:
        pass


def plan(rounds: int = 3, config: str = "settings", alpha: Any = "rank", **server: Any) -> RunSettings:
    """Return run settings of a few quick rounds."""
    return RunSettings(7, LoraSettings(alpha=alpha), Train(rounds=rounds, steps=3, lr=0.1), Server(**server), config)


def run(
    folder: Path,
    messenger: Messenger,
    settings: RunSettings,
    observer: RunObserver | None = None,
    test: Test | None = None,
    max_rank: int = 8,
    base: str = "base",
    limit: Limit = lambda name: None,
    head: tuple[HeadModule, ...] = (),
) -> Entries:
    """Run to the end and return all commits; the run starts where the journal in the folder ends."""
    with Journal.open(folder, settings.server.keep_updates) as journal:
        model = RunModel(replace(described(base), head=head), max_rank)
        RoundLoop(messenger, settings, model, journal, observer or RunObserver(), Unpublished(), test, limit).run()
        return journal.entries


def hashes(entries: Entries) -> list[str]:
    """Return the hash of the broadcast after each round."""
    return [entry["adapter_hash"] for entry in entries]


def clients(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the records of a round's clients by name."""
    return {client["name"]: client for client in entry["metrics"]["clients"]}


def fresh(nodes: Iterable[NumpyNode] = FOUR, **changes: Any) -> MemoryExchange:
    """Make a messenger over these nodes, each with these changes."""
    return MemoryExchange([replace(node, **changes) for node in nodes])


def with_new_head(**changes: Any) -> list[NumpyNode]:
    """Return the four nodes on a base that lacks its head, each with these changes."""
    return [replace(node, held={}, head=HEAD, **changes) for node in FOUR]


def run_new_head(
    folder: Path, messenger: Messenger, settings: RunSettings, observer: RunObserver | None = None, **options: Any
) -> Entries:
    """Run as `run`, with a base that lacks its head."""
    return run(folder, messenger, settings, observer, head=HEAD, **options)


def plan_of(rounds: int, lora: Mapping[str, Any], **server: Any) -> RunSettings:
    """Return run settings as `plan`, with these keys of [lora]."""
    settings = plan(rounds, **server)
    return replace(settings, lora=replace(settings.lora, **lora))
