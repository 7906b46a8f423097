"""`fedlora study`: a study from start to end."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from common.errors import ConfigError, look_up
from common.settings.recipe import Recipe
from common.signals import STOPS, exit_on_signal
from simulations.studies.engine.outcomes import OutcomeFolder
from simulations.studies.engine.page import verdict, write_page
from simulations.studies.engine.runner import run_arms
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Outcomes, Study
from simulations.studies.registry import STUDIES

TRIALS = "trials"


def run_study(
    name: str, file: Path, assignments: list[str], out: Path, seeds: int | None, quick: bool, federated: bool
) -> Path:
    """Run a study on a recipe, or go on with it, and return its page.

    Args:
        name: of the study.
        file: the recipe.
        assignments: each `KEY.KEY=VALUE`.
        out: folder in which the study's is made, by its name and the recipe's.
        seeds: number of seeds; the study's own if not set.
        quick: few steps and rows.
        federated: adapters are trained by the recipe's clients.

    Raises:
        FedloraError: the study is unknown, the recipe's task or base cannot answer it, or a setting is wrong.
    """
    study = look_up(STUDIES, "NAME", name)
    _check_asked(study, name, assignments, seeds, federated)
    setting = Setting(file, tuple(assignments), seeds or _seeds(study, quick), quick, federated)
    recipe = setting.recipe()
    torch.set_num_threads(1)
    arms = study.arms(setting)
    _check_cohort(recipe, arms)
    folder = out / f"study-{name}-{file.stem}{'-federated' * federated}{'-quick' * quick}"
    command = _command(name, file, assignments, out, seeds, quick, federated)
    with exit_on_signal(*STOPS, message=f"interrupted; the same command goes on: {command}"):
        outcomes = run_arms(setting, arms, OutcomeFolder(_made(folder) / TRIALS), recipe.workers)
        findings = study.conclude(setting, outcomes)
        findings = replace(findings, text=f"{findings.text}{_at_ends(arms, outcomes)}")
        if quick:
            findings = replace(findings, held=None)  # So few steps decide nothing.
    page = write_page(folder, name, study, findings, command)
    print(verdict(findings))
    return page


def _seeds(study: Study, quick: bool) -> int:
    return min(2, study.seeds) if quick else study.seeds


def _check_asked(study: Study, name: str, assignments: Sequence[str], seeds: int | None, federated: bool) -> None:
    """Check that a study can do what it is asked for.

    Raises:
        ConfigError: it would be left out without a word.
    """
    if federated and not study.federates:
        able = ", ".join(name for name, each in STUDIES.items() if each.federates)
        raise ConfigError(f"--federated: study {name} cannot train by the recipe's clients; {able} can")
    if study.most_seeds and (seeds or 0) > study.most_seeds:
        raise ConfigError(f"--seeds {seeds}: study {name} can use {study.most_seeds} at most; set it to that")
    if any(each.partition("=")[0].strip() == "seed" for each in assignments):
        raise ConfigError("--set seed: a study counts its seeds from 1; set their number by --seeds")


def _check_cohort(recipe: Recipe, arms: Sequence[Arm]) -> None:
    if recipe.server.cohort and any(arm.of == "federation" for arm in arms):
        raise ConfigError(
            f"[server] cohort = {recipe.server.cohort}: a study hears all clients in every round; remove it"
        )


def _at_ends(arms: Sequence[Arm], outcomes: Outcomes) -> str:
    """Return a sentence about the arms whose chosen rate is the lowest or highest that they could choose."""
    found = [arm.name for arm in arms if len(arm.rates) > 1 and outcomes[arm.name][0].rate in _ends(arm.rates)]
    return f" An end of its grid of rates was chosen for {'; '.join(found)}: a rate beyond may do better." * bool(found)


def _ends(rates: Sequence[float]) -> tuple[float, float]:
    return min(rates), max(rates)


def _made(folder: Path) -> Path:
    if page := next((each for each in folder.glob("*.*") if each.is_dir()), None):
        raise ConfigError(f"{page} is a folder where a page is written; set another --out")
    try:
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror}; set another --out") from None
    return folder


def _command(
    name: str, file: Path, assignments: list[str], out: Path, seeds: int | None, quick: bool, federated: bool
) -> str:
    words = ["fedlora", "study", name, str(file), *(word for each in assignments for word in ("--set", each))]
    words += [*(["--out", str(out)] if out != Path("runs") else []), *(["--seeds", str(seeds)] if seeds else [])]
    return shlex.join([*words, *(["--quick"] if quick else []), *(["--federated"] if federated else [])])
