"""Runs that several tests look at; none of them changes one."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.end_to_end.command import TINY, Ended, end, settings, start
from tests.helpers.simulations.runs import run_tiny

LEARNING = ("clients.count=6", "clients.ranks=[1, 2, 4, 8, 16, 32]", "train.steps=30", "train.lr=3e-2", "workers=1")
RESUMED = ("train.rounds=5", "train.steps=6")


@dataclass(frozen=True)
class Finished:
    """A run's folder, and how the command that made it ended."""

    run: Path
    ended: Ended


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Six clients with ranks from 1 to 32, run as a user runs them."""
    out = tmp_path_factory.mktemp("finished")
    ended = end(start("simulate", TINY, "--out", out, "--name", "run", *settings(*LEARNING)))
    assert ended.status == 0, ended.err
    return Finished(out / "run", ended)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Return the run that every resumed one must equal."""
    return run_tiny(tmp_path_factory.mktemp("undisturbed"), *RESUMED, "workers=1")
