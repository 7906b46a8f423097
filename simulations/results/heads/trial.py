"""One training with one kind of head, and the records that it gives."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from common.adapters.adapter import Adapter
from simulations.results.clients import Traffic
from simulations.results.heads.cases import BATCHES, ROWS, Case
from simulations.results.nodes import Nodes, load_nodes
from simulations.results.records import Record
from simulations.results.rounds import Trained, train_rounds
from simulations.results.score import score
from simulations.results.tasks import Trial


def run_trial(case: Case, head: str, seed: int) -> list[Record]:
    """Train with one kind of head; return the records of the head alone, the start, and the start and refit."""
    task = case.task()
    method = next(each for each in task.methods if each.name == head)
    trial = Trial(task, method, method.steps[0], method.rates[0], seed)
    nodes = load_nodes(trial.recipe, ROWS[1])
    with tempfile.TemporaryDirectory() as folder:
        trained, traffic = train_rounds(trial.recipe, nodes, Path(folder))
    return [_record(trial, name, nodes, update, traffic) for name, update in _updates(head, trained)]


def _updates(head: str, trained: Trained) -> Iterator[tuple[str, Adapter]]:
    if head == "trained":
        yield head, trained.update
        return
    yield f"{head} alone", trained.begun
    yield f"{head}, start", trained.before_refit
    yield f"{head}, start and refit", trained.update


def _record(trial: Trial, name: str, nodes: Nodes, update: Adapter, traffic: Traffic) -> Record:
    node = next(iter(nodes.nodes.values()))
    test = score(node, update, nodes.test)
    key = replace(trial, method=replace(trial.method, name=name)).key
    sent = traffic.down, traffic.up, traffic.rows
    return Record(*key, BATCHES // trial.steps, test.right, test.loss, "0", 0.0, *sent, 0.0)
