"""A deployment that begins at an adapter, over mutual TLS: only the server reads its folder, and the run keeps it."""

import shutil

import numpy as np
import pytest

from common.adapters.codec import decode_adapter
from common.huggingface.peft_folder import read_peft_folder, write_peft_folder
from tests.helpers.common.models import random_adapter
from tests.helpers.end_to_end.command import call, end
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject, honest
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.exchange import SHAPES, dense
from tests.helpers.simulations.runs import hashes, records

NODES = HONEST[:2]
RULES = {
    "increments": {},
    "fedsgd": {"algorithm": "fedsgd"},
    "fedlin": {"algorithm": "fedlin", "mode": "b"},
    "hetlora": {"algorithm": "hetlora"},
}


def project_at(folder, rule=None, **base):
    """Return a project of two nodes whose run begins at the adapter `start`, which is outside of their folders."""
    project = NumpyProject(folder, quorum=2)
    write_peft_folder(folder / "start", random_adapter(SHAPES, (2, 3)), (), "numbers", "classification")
    write(project, rule, adapter="start", **base)
    return project


def write(project, rule=None, **base):
    project.write_server(rule or {}, quorum=2, base={"file": "base.toml", **base})


def begin_and_kill(project):
    """Serve until round 1 is committed, and kill the server and its nodes."""
    project.admit_new(node.name for node in NODES)
    with project.serving():
        running = [project.node(node) for node in NODES]
        until(lambda: any("round 1 is committed" in line for line in project.log))
    for node in running:
        node.stop()


def serve_alone(project):
    """Return the end of a server that no node calls."""
    with project.serving() as server:
        return end(server).status, project.log_file.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    project = project_at(tmp_path_factory.mktemp("whole"))
    assert project.whole_run(NODES).status == 0, project.log
    return project


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("fedlin", "hetlora") else ()) for name in RULES]
)
def test_the_nodes_begin_at_the_adapter_that_only_the_server_has(name, tmp_path):
    project, received = project_at(tmp_path, RULES[name]), {}

    def watch(kind, asked, reply):
        if kind == "evaluate" and asked.values["round"] == 0:
            received.setdefault("first", asked.parts["frozen"])
        return reply

    assert project.whole_run(NODES, dict.fromkeys(["ada", "bob"], watch)).status == 0, project.log
    start, sent = read_peft_folder(tmp_path / "start").adapter, decode_adapter(received["first"])
    for module in SHAPES:
        np.testing.assert_allclose(dense(sent[module]), dense(start[module]), atol=1e-6)
    assert [client["status"] for record in records(project.run) for client in record["clients"]] == ["ok"] * 8
    assert f"round 0 begins at the adapter in {tmp_path / 'start'}: same bits" in call("verify", project.run).out
    assert not list((tmp_path / "nodes").rglob("adapter*"))


def test_a_run_goes_on_without_the_folder_and_ends_with_the_same_bits(whole, tmp_path):
    project = project_at(tmp_path)
    begin_and_kill(project)
    shutil.rmtree(tmp_path / "start")
    assert project.whole_run(NODES).status == 0, project.log
    assert hashes(project.run) == hashes(whole.run)


def test_a_run_goes_on_with_a_moved_folder_and_with_no_other_adapter(whole, tmp_path):
    project = project_at(tmp_path)
    begin_and_kill(project)
    write_peft_folder(tmp_path / "start", random_adapter(SHAPES, (1,), seed=3), (), "numbers", "classification")
    status, log = serve_alone(project)
    assert (status, "Traceback" in log) == (2, False)
    assert f"[base] adapter = '{tmp_path / 'start'}' has content of SHA-256" in log
    assert "give the adapter that the run began with" in log
    shutil.copytree(whole.folder / "start", tmp_path / "moved")
    write(project, adapter="moved")
    assert project.whole_run(NODES).status == 0, project.log
    assert hashes(project.run) == hashes(whole.run)


def test_the_adapter_is_part_of_the_settings(whole, undisturbed, tmp_path):
    config = (whole.run / "config.toml").read_text()
    assert "adapter_hash = " in config
    assert "adapter" not in (undisturbed.run / "config.toml").read_text()
    project = NumpyProject(tmp_path, quorum=2)
    begin_and_kill(project)
    write_peft_folder(tmp_path / "start", random_adapter(SHAPES, (2,)), (), "numbers", "classification")
    write(project, adapter="start")
    status, log = serve_alone(project)
    assert (status, "the run began without one; remove the key" in log) == (2, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"query": (8, 9)}, "query is (8, 9), and the base's (8, 8); give an adapter of this base"),
        ({"other": (4, 4)}, "other is no LoRA target of the run; set [lora] targets"),
    ],
)
def test_what_does_not_fit_ends_the_server_before_it_listens(change, said, tmp_path):
    project = project_at(tmp_path)
    project.admit("ada")
    write_peft_folder(tmp_path / "start", random_adapter(SHAPES | change, (2,)), (), "numbers", "classification")
    status, log = serve_alone(project)
    assert (status, "Traceback" in log, "listening" in log) == (2, False, False)
    assert said in log
    assert not (project.run / "config.toml").exists()


def test_a_rule_that_cannot_hold_the_adapter_says_so_without_waiting_for_nodes(tmp_path):
    project = project_at(tmp_path, {"algorithm": "hetlora"}, max_rank=2)
    project.admit("ada")
    status, log = serve_alone(project)
    assert (status, "Traceback" in log) == (2, False)
    assert '[base] adapter has rank 3, but algorithm = "hetlora" holds only factors of rank 2' in log


def test_an_adapter_of_a_base_of_another_name_is_said(tmp_path):
    project = project_at(tmp_path)
    write_peft_folder(tmp_path / "start", random_adapter(SHAPES, (2, 3)), (), "org/words", "classification")
    assert project.whole_run(NODES, {"ada": honest}).status == 0
    assert any("was made for the base model 'org/words', and this run's is 'numbers'" in line for line in project.log)


def test_what_rank_global_leaves_out_is_in_the_servers_log(whole, tmp_path):
    project = project_at(tmp_path, {"rank_global": 1})
    assert project.whole_run(NODES).status == 0
    assert any("the run begins at its adapter but for 0." in line for line in project.log)
    assert not any("begins at its adapter but" in line for line in whole.log)  # control
