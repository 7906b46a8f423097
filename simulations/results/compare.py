"""A comparison from start to end: rates on validation rows of the first seed, then the other seeds at these rates."""

import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from simulations.results.nodes import load_nodes
from simulations.results.records import Record, Records
from simulations.results.rounds import train_rounds
from simulations.results.score import score
from simulations.results.tasks import Task, Trial, first_trials
from simulations.workers import end_with_parent

Tell = Callable[[str], None]


def compare(task: Task, records: Records, seeds: int, workers: int, tell: Tell) -> None:
    """Run the trials that have no record yet.

    Args:
        task: its methods and rows.
        records: of earlier trials; new ones are added.
        seeds: number of seeds, counted from 1.
        workers: processes, each with one thread.
        tell: gets a line for each new record.
    """
    first = first_trials(task)
    _run(first, records, workers, tell)
    chosen = choose_rates(first, records)
    _run([replace(t, seed=seed) for seed in range(2, seeds + 1) for t in chosen], records, workers, tell)


def choose_rates(first: Iterable[Trial], records: Records) -> list[Trial]:
    """Return, for each way to run a method, its trial that is right on most validation rows; none without records."""
    best: dict[tuple[str, int], Trial] = {}
    for trial in first:
        way, held = (trial.method.name, trial.steps), records.get(trial.key)
        if held and (way not in best or _merit(held) > _merit(records[best[way].key])):
            best[way] = trial
    return list(best.values())


def run_trial(trial: Trial) -> Record:
    """Train and test."""
    recipe, task = trial.recipe, trial.task
    nodes = load_nodes(recipe, task.valid_rows, trial.method.pooled, trial.method.calibrated)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trained, traffic = train_rounds(recipe, nodes, Path(folder))
    adapter = trained.update
    seconds, node = time.monotonic() - began, next(iter(nodes.nodes.values()))
    test, valid = score(node, adapter, nodes.test), score(node, adapter, nodes.valid)
    measured = test.right, test.loss, valid.right, valid.loss
    sent = traffic.down, traffic.up, traffic.rows
    return Record(*trial.key, task.batches // trial.steps, *measured, *sent, round(seconds, 1))


def _run(trials: Iterable[Trial], records: Records, workers: int, tell: Tell) -> None:
    left = [trial for trial in trials if trial.key not in records]
    with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
        running = [pool.submit(run_trial, trial) for trial in left]
        try:
            for done, future in enumerate(as_completed(running), 1):
                records.add(record := future.result())
                tell(f"{done}/{len(left)}  {_line(record)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def begin_worker() -> None:
    """Prepare a process: one thread, and attention as plain products, whose backward pass in bfloat16 on a CPU takes a
    tenth of the fused one's time. It ends with its parent."""
    end_with_parent()
    torch.set_num_threads(1)
    torch.backends.cuda.enable_flash_sdp(False)  # Not CUDA's alone, in spite of the name.
    torch.backends.cuda.enable_mem_efficient_sdp(False)


def _merit(record: Record) -> tuple[float, float]:
    return record.valid_accuracy, -record.valid_loss


def _line(record: Record) -> str:
    return (
        f"{record.method}, {record.exchanges} exchanges of {record.steps}, rate {record.rate:g}, seed {record.seed}: "
        f"validation {record.valid_accuracy:.3f}, test {record.accuracy:.3f}, {record.seconds:.0f} s"
    )
