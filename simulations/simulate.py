"""A simulation from start to end: data, partition, rounds, report; many clients on one machine over one base model.

fedlora simulate simulations/recipes/docs.toml
"""

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

import client.app
from client.check import describe_base
from client.finished.run import load_run, load_test_rows
from client.model.quantised import count_numbers
from client.node import attach_lora, load_node_base
from client.objectives.examples import Examples, subset
from client.training.evaluate import Score, add_scores, evaluate
from common.adapters import lowrank
from common.adapters.adapter import Adapter
from common.closed_folders import close_run, closed_to_others
from common.errors import naming_command
from common.log_format import event
from common.settings.node import Node
from common.settings.reader import to_tables
from common.settings.recipe import Recipe
from common.settings.tasks import TASKS
from common.signals import STOPS, exit_on_signal
from server.app import make_app
from server.metrics.rounds import TestScore
from server.rounds.evaluation import Test
from server.run_folder import RunFolder
from server.storage.journal_reader import begun_modules, verify_journal
from simulations.grid import InProcessGrid, naming_fault
from simulations.pooled import prepare_pooled
from simulations.prepare import Prepared, prepare, write_nodes, write_test
from simulations.progress import progress
from simulations.recipe import read_recipe
from simulations.report.page import POOLED, Supplement, write_report
from simulations.report.samples import samples

log = logging.getLogger(__name__)

PARTS = 8
"""Number of parts in which test rows are measured: fixed, so that sums do not depend on the number of workers."""


def simulate(
    file: Path,
    assignments: list[str],
    name: str | None,
    out: Path,
    resume: Path | None,
    prepare_only: bool = False,
    pooled: bool = False,
) -> Path:
    """Run a recipe and return the run's folder.

    Args:
        file: the recipe.
        assignments: each `KEY.KEY=VALUE`.
        name: of the run's folder.
        out: folder in which it is made.
        resume: folder of a run to go on with.
        prepare_only: only write a run for Flower's own engine.
        pooled: then train one client that holds all rows, in a folder of the run.

    Raises:
        FedloraError: a setting, the base, a row or the run folder is wrong, or a round failed.
    """
    recipe = read_recipe(file, assignments, resume)
    if resume:
        close_run(resume)
    torch.set_num_threads(recipe.threads)
    console = Console(stderr=True)
    prepared, single = _prepare(recipe, resume, pooled, console)
    with closed_to_others():
        folder = RunFolder(resume) if resume else RunFolder.create(out / (name or _fresh_name(file)), to_tables(recipe))
        with _naming(_command_to_resume(file, assignments, folder.path, pooled)):
            _fill(recipe, prepared, folder, console, prepare_only)
            if single:
                _pool(*single, folder, console)
                _report(recipe, prepared, folder)
    return folder.path


def _prepare(
    recipe: Recipe, resume: Path | None, pooled: bool, console: Console
) -> tuple[Prepared, tuple[Recipe, Prepared] | None]:
    """Return what the run needs, and what pooled training needs if it is asked for."""
    what = "reading base model and data"
    # A library that is in the middle of its work may swallow a KeyboardInterrupt.
    with exit_on_signal(*STOPS, message=f"interrupted while {what}"), console.status(what) as status:
        if not console.is_terminal:
            console.print(what)
        begun = begun_modules(RunFolder(resume).journal) if resume else ()
        prepared = prepare(recipe, lambda share: status.update(f"{what}: {share:.0%} of the rows"), begun)
        for line in prepared.found.lines():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return prepared, prepare_pooled(recipe, len(prepared.nodes), resume) if pooled else None


def _command_to_resume(file: Path, assignments: Sequence[str], run: Path, pooled: bool) -> str:
    """Return the command with the overrides: a run resumes only with the settings that it started with."""
    overrides = [word for assignment in assignments for word in ("--set", assignment)]
    last = ["--pooled"] if pooled else []
    return shlex.join(["fedlora", "simulate", str(file), "--resume", str(run), *overrides, *last])


@contextmanager
def _naming(again: str) -> Iterator[None]:
    """Name the command that resumes the run where it is interrupted or fails."""
    with exit_on_signal(*STOPS, message=f"interrupted; resume with: {again}"), naming_command(again):
        yield


def _fill(recipe: Recipe, prepared: Prepared, folder: RunFolder, console: Console, prepare_only: bool) -> None:
    """Run the rounds into the run's folder, or only write what Flower's own engine needs."""
    files = _write(recipe, prepared, folder)
    if prepare_only:
        console.print(_flower_command(folder.path, len(files)), soft_wrap=True, highlight=False)
    else:
        _run(recipe, prepared, folder, files)
        _report(recipe, prepared, folder)


def _pool(recipe: Recipe, prepared: Prepared, folder: RunFolder, console: Console) -> None:
    """Run pooled training into a folder of the run, or go on with it."""
    console.print(f"pooled training: one client with all {len(prepared.shards[0].rows)} rows", highlight=False)
    place = RunFolder(folder.path / POOLED)
    place.path.mkdir(mode=0o700, exist_ok=True)
    _run(recipe, prepared, place, _write(recipe, prepared, place))


def _write(recipe: Recipe, prepared: Prepared, folder: RunFolder) -> tuple[Path, ...]:
    """Write settings, nodes, test rows and the description of the base into the run's folder; return the nodes' files.

    The settings of a run that has begun are written again, since keys that change no result may differ.
    """
    folder.write_settings(to_tables(recipe))
    files = write_nodes(folder.path / "nodes", prepared)
    write_test(folder.path, prepared)
    folder.describe_base(describe_base(prepared.nodes[0], recipe.lora.targets, prepared.begun))
    return files


def _fresh_name(file: Path) -> str:
    return f"{file.stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def _flower_command(run: Path, clients: int) -> str:
    """Return the commands that run it on Flower's engine, to be typed in the checkout."""
    nodes, setting = str(run.resolve() / "nodes"), f'run="{run.resolve()}"'
    return (
        f"export FEDLORA_NODES={shlex.quote(nodes)} FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 "
        "FLWR_TELEMETRY_ENABLED=0\n"
        f"flwr run . local --stream --run-config {shlex.quote(setting)} "
        f"--federation-config 'num-supernodes={clients} client-resources-num-cpus=1'"
    )


def _run(recipe: Recipe, prepared: Prepared, folder: RunFolder, files: Sequence[Path]) -> None:
    with progress() as display, InProcessGrid(client.app.app, files, recipe.workers, recipe.threads) as grid:
        test = _test_rows(grid, folder) if prepared.test_rows else None
        with naming_fault():
            grid.serve(make_app(display, test), folder.path)


def _test_rows(grid: InProcessGrid, folder: RunFolder) -> Test:
    node, rows = load_test_rows(folder.path)
    return Test(len(rows), partial(_test, grid, node, rows))


def _test(grid: InProcessGrid, node: Node, rows: Examples, adapter: Adapter) -> TestScore:
    """Measure loss and score on the test rows, on the grid's own workers."""
    parts = [subset(rows, range(part, len(rows), PARTS)) for part in range(min(PARTS, len(rows)))]
    whole = add_scores(rows.objective, list(grid.map(partial(_score, node, adapter), parts)))
    return TestScore(whole.loss, whole.measures)


def _score(node: Node, adapter: Adapter, rows: Examples) -> Score:
    skeleton, lora = attach_lora(load_node_base(node), tuple(adapter))
    return evaluate(skeleton, lora, adapter, rows)


def _report(recipe: Recipe, prepared: Prepared, folder: RunFolder) -> None:
    trained, last = load_run(folder.path), verify_journal(folder.journal)[-1]
    model = trained.base.model
    facts = {
        "Base model": f"{recipe.base.path}, {count_numbers(model)[0]:,} parameters, frozen",
        "Data": prepared.source,
        "Rows longer than max_length": f"{prepared.truncated}, cut at {recipe.data.max_length} tokens",
        "Fingerprint of base, tokenizer, targets, labels": last["base"],
        "SHA-256 of the global update": last["adapter_hash"],
    }
    if skipped := prepared.found.skipped:
        facts["Unusable rows left out"] = f"{len(skipped)}, as skip_bad_rows asks"
    spectrum = {name: lowrank.spectrum(factors).tolist() for name, factors in trained.adapter.items()}
    data = trained.node.data
    chance = 1 / len(data.labels) if data.has_classes else None
    full_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    answers = _samples(folder.path) if TASKS[recipe.data.task].perplexity and prepared.test_rows else ()
    write_report(folder.path, Supplement(spectrum, facts, answers, chance, full_bytes))


def _samples(run: Path) -> Sequence[Mapping[str, str]]:
    """Return sample answers; none, and a line, where they fail: the run's result does not depend on them."""
    try:
        return samples(run)
    except Exception as error:  # What a model and a library do on unseen rows is not ours to list.
        reason = str(error) or type(error).__name__
        log.warning("the report of %s has no sample answers: %s", run, reason, extra=event("warning"))
        return ()
