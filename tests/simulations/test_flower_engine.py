import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from common.adapters.joined import stack_adapters
from common.settings.reader import read_toml
from server.storage.journal import Journal
from simulations.bench.flower import flower_engine
from simulations.simulate import simulate

RECIPE = Path(__file__).parents[2] / "simulations" / "recipes" / "tiny.toml"
FRESH = ["server.a=fresh"]
CLIENTS, ROUNDS = 4, 3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray_run(tmp_path_factory):
    """Return a run on Flower's engine, its log, and whether the base's weights were away from round 1 on."""
    folder = tmp_path_factory.mktemp("ray")
    run = simulate(RECIPE, FRESH, "run", folder, None, prepare_only=True)
    base = own_base(run, folder / "base")
    with flower_engine(folder / "home", run / "nodes") as engine:
        away = threading.Event()
        threading.Thread(target=remove_after_round_1, args=(run, base, away), daemon=True).start()
        log = engine.run(run, CLIENTS)
    return run, log, away


def own_base(run, folder):
    """Let every node name a copy of the base model; the folder of the copy."""
    for file in (run / "nodes").glob("*.toml"):
        node = read_toml(file)
        if not folder.exists():
            shutil.copytree(node["base"], folder)
        file.write_text(tomli_w.dumps(dict(node) | {"base": str(folder)}), encoding="utf-8")
    return folder


def remove_after_round_1(run, base, away):
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        time.sleep(0.02)
    (base / "model.safetensors").unlink()
    if len(metrics.read_text().splitlines()) < 1 + ROUNDS:
        away.set()


def update(run):
    """Return the sum of all rounds, with the factors that are shared if there are such, dense by module."""
    with Journal.open(run / "journal") as journal:
        assert len(journal.entries) == 1 + ROUNDS
        parts = journal.last_state().parts
    mass = stack_adapters(parts["mass"], parts["shared"], "f8") if "shared" in parts else parts["mass"]
    return {name: factors.b.astype(float) @ factors.a.astype(float) for name, factors in mass.items()}


def distance(one, other):
    return np.sqrt(
        sum(np.sum((one[name] - other[name]) ** 2) for name in one) / sum(np.sum(v**2) for v in one.values())
    )


def test_ray_ends_with_the_update_of_the_grid_in_this_process(ray_run, tmp_path):
    ours = update(simulate(RECIPE, FRESH, "run", tmp_path, None))
    other_seed = update(simulate(RECIPE, [*FRESH, "seed=2"], "seed-2", tmp_path, None))
    assert distance(ours, update(ray_run[0])) <= 1e-5
    assert distance(ours, other_seed) > 0.1  # control


def test_a_ray_actor_keeps_its_base_model(ray_run):
    run, log, away = ray_run
    assert away.is_set(), log
    assert len(update(run)) > 0


def test_no_dependency_is_installed_at_run_time(ray_run):
    home = ray_run[0].parent / "home"
    assert list(home.rglob("server/app.py"))  # the bundle was unpacked there
    assert not list(home.rglob("pyvenv.cfg"))
    assert "No module named" not in ray_run[1]


def test_a_run_on_ray_goes_on_in_this_process(ray_run):
    run = ray_run[0]
    before = (run / "journal" / "log.jsonl").read_bytes()
    assert simulate(RECIPE, FRESH, None, run.parent, run) == run
    assert (run / "journal" / "log.jsonl").read_bytes() == before
    assert (run / "report.html").is_file()


def test_nodes_of_another_number_are_refused(tmp_path):
    run = simulate(RECIPE, FRESH, "run", tmp_path, None, prepare_only=True)
    with flower_engine(tmp_path / "home", run / "nodes") as engine:
        log = engine.run(run, CLIENTS - 1)
    assert f"contains {CLIENTS} settings files, but Flower started {CLIENTS - 1} nodes" in log
    assert "0 of 1 nodes are ready" in log
    assert log.count("refused: settings") >= CLIENTS - 1
    assert not (run / "adapter").exists()


def test_ray_actors_find_what_nodes_have_not_sent_of_their_gradients(tmp_path):
    settings = ["server.algorithm=fedsgd", "server.optimizer=sgd", "train.lr=0.3", "train.warmup=0"]
    run = simulate(RECIPE, settings, "ray", tmp_path, None, prepare_only=True)
    with flower_engine(tmp_path / "home", run / "nodes") as engine:
        log = engine.run(run, CLIENTS)
    here = simulate(RECIPE, settings, "here", tmp_path, None)
    assert distance(update(here), update(run)) <= 1e-5
    assert "what this node had not sent" not in log
    for folder in (run, here):
        kept = list((folder / "nodes").glob("*.state/gradient-memory"))
        assert len(kept) == CLIENTS
