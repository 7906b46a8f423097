"""Runs that the first code left half done: they resume, verify, export and admit."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.identity.credentials import load_node_credentials
from common.identity.documents import signatures
from common.identity.documents.signatures import Receipt
from common.settings.recipe import Recipe
from common.settings.resume import config_hash, read_run_settings
from common.settings.server import ServerFile
from tests.helpers.end_to_end.command import call, end, refusal, settings, start
from tests.helpers.end_to_end.old_runs import OldDeployment, old_simulation, whole
from tests.helpers.simulations.runs import entries, records


@pytest.fixture
def simulation(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLORA_CACHE", str(tmp_path / "cache"))
    return old_simulation(tmp_path)


@pytest.fixture
def deployment(tmp_path):
    return OldDeployment(tmp_path)


def adapter(folder):
    return load_file(folder / "adapter_model.safetensors")


def updates(tensors):
    """B·A of each module, and each tensor of the head: factors of one update may differ."""
    products = {
        n.replace("lora_A", "BA"): tensors[n.replace("lora_A", "lora_B")] @ tensors[n] for n in tensors if "lora_A" in n
    }
    return products | {name: tensor for name, tensor in tensors.items() if "lora_" not in name}


def distance(tensors, others):
    """Relative, of the updates; other machines end with other last bits."""
    ours, theirs = updates(tensors), updates(others)
    assert ours.keys() == theirs.keys()
    return np.sqrt(sum(np.sum((ours[n] - theirs[n]) ** 2) for n in ours) / sum(np.sum(theirs[n] ** 2) for n in theirs))


def test_a_simulation_resumes_and_ends_as_the_code_that_began_it_ends(simulation):
    recipe, run = simulation
    before = entries(run)
    half = adapter(run / "adapter")
    assert call("verify", run).out.startswith("intact: rounds 0 to 2")
    assert call("simulate", recipe, "--resume", run).status == 0
    assert entries(run)[:3] == before
    assert distance(adapter(run / "adapter"), whole("simulation")) < 1e-3
    assert distance(half, whole("simulation")) > 0.1  # control
    assert [record["round"] for record in records(run)] == list(range(5))
    assert (run / "report.html").exists()


def test_its_settings_have_the_hash_they_had(simulation, deployment):
    _, run = simulation
    assert entries(run)[0]["config"] == config_hash(read_run_settings(Recipe, run / "config.toml"))
    assert entries(deployment.run)[0]["config"] == config_hash(
        read_run_settings(ServerFile, deployment.run / "config.toml")
    )


def test_a_simulation_that_resumed_is_evaluated_and_exported(simulation, tmp_path):
    recipe, run = simulation
    assert call("simulate", recipe, "--resume", run).status == 0
    assert json.loads(call("evaluate", run).out)["test_loss"] == pytest.approx(records(run)[-1]["test_loss"], rel=1e-5)
    assert call("export", run, tmp_path / "out").status == 0
    assert distance(adapter(tmp_path / "out"), adapter(run / "adapter")) < 1e-5


def test_another_setting_is_still_another_run(simulation):
    recipe, run = simulation
    message = refusal(call("simulate", recipe, "--resume", run, *settings("train.steps=21")))
    assert "train.steps: the run has 20, this recipe 21" in message


def test_a_deployment_is_verified_evaluated_and_exported_as_it_stands(deployment, tmp_path):
    assert call("verify", deployment.run).out.startswith("intact: rounds 0 to 2")
    assert json.loads(call("evaluate", deployment.run).out)["count"] == 40
    assert call("export", deployment.run, tmp_path / "out").status == 0
    assert distance(adapter(tmp_path / "out"), adapter(deployment.run / "adapter")) < 1e-5


@pytest.mark.parametrize("name", ["hospital-a", "hospital-b"])
def test_its_receipts_verify_and_state_no_clip_factor(deployment, name):
    folder = deployment.folder / "nodes" / name
    key = load_node_credentials(folder, name).receipt_public_key
    lines = (folder / f"{name}.receipts").read_text().splitlines()
    assert lines
    for line in lines:
        receipt = json.loads(line)
        signature = bytes.fromhex(receipt.pop("signature"))
        assert signatures.verify_signature(Receipt(**receipt), signature, key)
        assert not signatures.verify_signature(Receipt(**receipt, clip=1.0), signature, key)


def test_its_operator_admits_a_request_of_that_time(deployment):
    admit(deployment)
    node = load_node_credentials(deployment.folder / "nodes" / "hospital-late", "hospital-late")
    assert {"hospital-a", "hospital-b", "hospital-late"} == node.roster.members.keys()
    shown = call("keys", "show", "--dir", deployment.keys)
    assert (shown.status, "hospital-late" in shown.out) == (0, True)


@pytest.mark.slow
def test_a_deployment_resumes_and_ends_as_the_code_that_began_it_ends(deployment):
    before = entries(deployment.run)
    half = adapter(deployment.run / "adapter")
    assert run_with(deployment, "hospital-a", "hospital-b") == [0, 0, 0]
    assert entries(deployment.run)[:3] == before
    assert distance(adapter(deployment.run / "adapter"), whole("deployment")) < 1e-3
    assert distance(half, whole("deployment")) > 0.1  # control
    for name in ("hospital-a", "hospital-b"):
        lines = (deployment.folder / "nodes" / name / f"{name}.receipts").read_text().splitlines()
        assert [json.loads(line)["round"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_node_that_is_admitted_now_takes_part_beside_the_old_ones(deployment):
    admit(deployment)
    deployment.set("quorum", "3")
    assert run_with(deployment, "hospital-a", "hospital-b", "hospital-late") == [0] * 4
    names = [
        {node["name"] for node in record["clients"] if node["status"] == "ok"} for record in records(deployment.run)
    ]
    assert names[2:] == [{"hospital-a", "hospital-b"}, *[{"hospital-a", "hospital-b", "hospital-late"}] * 2]


def admit(deployment):
    request = deployment.folder / "nodes" / "hospital-late" / "hospital-late.request"
    words = ("--max-rank", 8, "--max-weight", 5000, "--dir", deployment.keys)
    assert call("keys", "admit", request, *words).status == 0
    deployment.invite("hospital-late")


def run_with(deployment, *names):
    """Return the exit statuses of the server and these nodes."""
    server = start("server", deployment.folder / "server.toml")
    return [end(process).status for process in (server, *(start("client", deployment.node_file(n)) for n in names))]
