"""Runs the trials of a study in processes: rates on the first seed, then the other seeds at these rates."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from common.errors import RunError
from simulations.results.compare import begin_worker
from simulations.studies.engine.outcomes import Outcome, OutcomeFolder
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Outcomes, Trial
from simulations.studies.engine.trial import check_places, run_trial, trial_key

Tell = Callable[[str], None]
"""Gets a line for each trial that is done; none for one that was done before."""


def run_arms(setting: Setting, arms: Sequence[Arm], folder: OutcomeFolder, workers: int) -> Outcomes:
    """Run the trials that have no outcome yet, and return each arm's at its best rate.

    Args:
        setting: of all trials.
        arms: of the study.
        folder: of outcomes; new ones are added.
        workers: processes, each with one thread.

    Raises:
        FedloraError: a trial cannot run.
    """
    first = [Trial(arm, rate, 1) for arm in arms for rate in arm.rates]
    total = len(first) + len(arms) * (setting.seeds - 1)
    with _progress(total) as tell, _pool(workers) as pool:
        if _left(setting, first, folder):
            pool.submit(check_places, setting, arms).result()  # Before the first is trained for hours.
        _run(setting, first, folder, pool, tell)
        chosen = [_best(setting, [t for t in first if t.arm is arm], folder) for arm in arms]
        later = [replace(trial, seed=seed) for seed in range(2, setting.seeds + 1) for trial in chosen]
        _run(setting, later, folder, pool, tell)
    return {
        trial.arm.name: [_held(setting, replace(trial, seed=seed), folder) for seed in range(1, setting.seeds + 1)]
        for trial in chosen
    }


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield so many processes, and raise RunError if one is ended from outside."""
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
            yield pool
    except BrokenProcessPool:
        raise RunError(
            f"one of the study's processes was ended from outside, as where memory is short (workers = {workers}); the "
            "same command goes on, with --set workers=1 in less memory"
        ) from None


def _run(
    setting: Setting, trials: Sequence[Trial], folder: OutcomeFolder, pool: ProcessPoolExecutor, tell: Tell
) -> None:
    left = _left(setting, trials, folder)
    for _ in range(len(trials) - len(left)):
        tell("")
    running = [pool.submit(_run_into, folder, key, setting, trial) for key, trial in left.items()]
    try:
        for future in as_completed(running):
            tell(future.result())
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _left(setting: Setting, trials: Sequence[Trial], folder: OutcomeFolder) -> dict[str, Trial]:
    """Return the trials that have no outcome, by key."""
    keys = {trial_key(setting, trial): trial for trial in trials}
    return {key: trial for key, trial in keys.items() if folder.get(key) is None}


def _run_into(folder: OutcomeFolder, key: str, setting: Setting, trial: Trial) -> str:
    """Run a trial, write its outcome, and return a line about it: an update stays in its process."""
    folder.add(key, outcome := run_trial(setting, trial))
    return line_of(outcome)


def _best(setting: Setting, trials: Sequence[Trial], folder: OutcomeFolder) -> Trial:
    return max(trials, key=lambda trial: _held(setting, trial, folder).merit)


def _held(setting: Setting, trial: Trial, folder: OutcomeFolder) -> Outcome:
    outcome = folder.get(trial_key(setting, trial))
    if outcome is None:
        raise FileNotFoundError(f"the outcome of {trial.arm.name} was removed meanwhile")
    return outcome


@contextmanager
def _progress(total: int) -> Iterator[Tell]:
    """Yield what is called as each trial is done: a bar on a terminal, a line each elsewhere."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_interactive) as bar:
        task = bar.add_task("trials", total=total)

        def tell(line: str) -> None:
            bar.update(task, advance=1, description=line or "trials")
            if line and not console.is_interactive:
                print(f"{int(bar.tasks[0].completed)}/{total}  {line}", file=sys.stderr, flush=True)

        yield tell


def line_of(outcome: Outcome) -> str:
    """Return a line about a trial that has ended."""
    return (
        f"{outcome.arm}, rate {outcome.rate:g}, seed {outcome.seed}: "
        f"accuracy {outcome.accuracy:.3f}, {outcome.seconds:.0f} s"
    )
