"""A prepared run on the grid in this process; after each round it repeats the clients' work without grid and server."""

import json
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Message

import client.app
from client.node import LocalNode, attach_lora, load_node
from client.training.evaluate import evaluate
from client.training.train import train
from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter
from common.protocol.assignment import Assignment, Training
from common.protocol.messages import FROZEN, unpack_assignment
from common.protocol.payload import Payload
from common.settings.reader import parse_settings, read_toml
from common.settings.recipe import Recipe
from server.app import make_app
from server.rounds.observer import RunObserver
from simulations.grid import InProcessGrid


class RecordingGrid(InProcessGrid):
    """Keeps the last pushed messages of each kind."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep and queue them."""
        pushed = list(messages)
        self.pushed = getattr(self, "pushed", {}) | {message.metadata.message_type: pushed for message in pushed[:1]}
        return super().push_messages(pushed)

    def node(self, message: Message) -> LocalNode:
        """Return the node that a message is for."""
        return load_node(Path(str(self._contexts[message.metadata.dst_node_id].node_config["node"])))


class Repeat(RunObserver):
    """Times each round to its very end, then only what its clients computed in it: training and evaluation."""

    def __init__(self, grid: RecordingGrid) -> None:
        self._grid, self._began = grid, time.perf_counter()
        self.rounds: list[float] = []
        self.pure: list[float] = []

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Record the times of a round, except round 0, which trains nothing."""
        if record["round"]:
            self.rounds.append(time.perf_counter() - self._began)
            self.pure.append(self._again())
        self._began = time.perf_counter()

    def _again(self) -> float:
        grid = self._grid
        trains = [partial(_train, grid.node(message), *_assignment(message)) for message in grid.pushed["train"]]
        tests = [partial(_evaluate, grid.node(m), _global_update(m)) for m in grid.pushed["evaluate"]]
        began = time.perf_counter()
        for works in (trains, tests):
            grid.map(lambda work: work(), works)
        return time.perf_counter() - began


def _global_update(message: Message) -> Adapter:
    return decode_adapter(Payload.from_message(message).parts[FROZEN])


def _assignment(message: Message) -> tuple[Assignment, Training]:
    asked = Payload.from_message(message)
    return unpack_assignment(asked.values, asked.blob, asked.parts), Training.from_values(asked.values)


def _train(node: LocalNode, assignment: Assignment, training: Training) -> None:
    train(*attach_lora(node.base, tuple(assignment.start)), [assignment], [node.settings.name], [node.train], training)


def _evaluate(node: LocalNode, adapter: Adapter) -> None:
    evaluate(*attach_lora(node.base, tuple(adapter)), adapter, node.held)


def main(run: Path) -> None:
    """Run it to its end, and print the seconds of each round and of each repetition as JSON.

    Its codec must be "plain", so that each message has its factors in full.
    """
    recipe = parse_settings(Recipe, read_toml(run / "config.toml"), str(run / "config.toml"))
    files = sorted((run / "nodes").glob("*.toml"))
    with RecordingGrid(client.app.app, files, recipe.workers, recipe.threads) as grid:
        repeat = Repeat(grid)
        grid.serve(make_app(repeat), run)
    print(json.dumps({"rounds": repeat.rounds, "pure": repeat.pure}))
