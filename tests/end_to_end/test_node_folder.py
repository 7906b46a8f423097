"""After a deployment each node's own folder has the adapter, and the commands take it as they take the server's."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from client.results.folder import NodeFolder
from common.hash_chain import read_chain
from tests.helpers.end_to_end.command import ROOT, call, end, refusal, start
from tests.helpers.end_to_end.deployment import NODES, Project


def folder_of(project: Project, name: str) -> Path:
    return project.shards / "nodes" / "runs" / name / "first"


def last_hash(project: Project) -> str:
    log = project.run / "journal" / "log.jsonl"
    return read_chain(log.read_bytes(), log).entries[-1]["adapter_hash"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project with a whole run of three nodes, of which one saves nothing."""
    made = Project(tmp_path_factory.mktemp("saved"))
    server = made.server()
    files = [made.node_file(name, like=name, save=name != "client-02") for name in NODES]
    nodes = [start("client", file, *(["--local"] if file == files[0] else [])) for file in files]
    ends = [end(process) for process in (server, *nodes)]
    for ended in ends:
        assert ended.status == 0, ended.err
    made.log = ends[1].err
    return made


@pytest.mark.parametrize("name", ["client-00", "client-01"])
def test_a_node_has_the_last_adapter_with_the_servers_files(project, name):
    folder = folder_of(project, name)
    assert sorted(each.name for each in (folder / "adapter").iterdir()) == sorted(
        each.name for each in (project.run / "adapter").iterdir()
    )
    weights = "adapter_model.safetensors"
    assert (folder / "adapter" / weights).read_bytes() == (project.run / "adapter" / weights).read_bytes()


def test_a_node_that_saves_nothing_has_no_folder(project):
    assert not folder_of(project, "client-02").exists()


def test_evaluate_measures_on_the_rows_that_the_node_holds_out(project):
    ended = call("evaluate", folder_of(project, "client-00"))
    assert ended.status == 0, ended.err
    measured = json.loads(ended.out)
    history = [json.loads(line) for line in (folder_of(project, "client-00") / "history.jsonl").open()]
    last = [line for line in history if "loss" in line and line["kind"] == "evaluate"][-1]
    assert measured["test_loss"] == pytest.approx(last["loss"], abs=1e-5)
    assert measured["count"] == last["count"]


def test_the_commands_of_the_page_on_what_comes_after_take_the_folder(project, tmp_path, monkeypatch):
    block, *_ = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "after-the-run.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        words = line.partition("#")[0].replace("runs/hospital-a/first", str(folder_of(project, "client-01"))).split()
        assert words.pop(0) == "fedlora"
        ended = call(*words)
        assert ended.status == 0, ended.err
    assert (tmp_path / "merged" / "config.json").is_file()
    assert (tmp_path / "exported" / "adapter_config.json").is_file()


def test_a_changed_update_is_not_used(project, tmp_path):
    folder = folder_of(project, "client-01")
    whole = (folder / "update").read_bytes()
    try:
        (folder / "update").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        ended = call("evaluate", folder)
    finally:
        (folder / "update").write_bytes(whole)
    assert ended.status == 2
    assert "update" in ended.err
    assert "Traceback" not in ended.err


def test_the_page_and_the_receipts_are_of_the_run(project):
    folder = folder_of(project, "client-00")
    page, receipts = (folder / "report.html").read_text(), (folder / "receipts.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in receipts] == [1, 2, 3]
    assert last_hash(project)[:12] in page
    assert "client-00" in page
    assert "has not signed" not in page


ALONE = '<th scope="row">Trained alone</th>'


def test_a_node_that_also_trained_alone_is_told_what_taking_part_was_worth(project):
    folder = folder_of(project, "client-00")
    page, last = (folder / "report.html").read_text(), NodeFolder.open(folder).history()[-1]
    assert (last["kind"], last["steps"], last["rank"]) == ("alone", 48, NODES["client-00"])
    assert f"{ALONE}<td>{last['loss']:.3f}</td>" in page
    assert "Trained alone: 48 AdamW steps at rank 4" in page
    assert "training alone, for the report: 48 steps" in project.log
    assert "alone: step 48 of 48" in project.log
    other = (folder_of(project, "client-01") / "report.html").read_text()  # control
    assert f"{ALONE}<td>–</td>" in other
    assert "Nothing was trained alone" in other


def test_a_node_that_saves_nothing_is_told_so_before_it_connects(project):
    file = project.node_file("client-02", save=False, server="localhost:1")
    err = refusal(call("client", file, "--local"))
    assert "save = false" in err
    assert "set save = true, or omit --local" in err
    assert "connect" not in err


def test_a_training_alone_is_not_for_a_check(project):
    ended = call("client", project.node_file("client-00"), "--check", "--local")
    assert ended.status == 2
    assert "--check is for before one" in re.sub(r"[\s│]+", " ", ended.err)


@pytest.fixture
def copy(project, tmp_path):
    """Return a copy of a node's folder, to be changed."""
    shutil.copytree(folder_of(project, "client-01"), tmp_path / "copy")
    return tmp_path / "copy"


def test_verify_checks_adapter_signatures_and_rounds(copy):
    ended = call("verify", copy)
    assert ended.status == 0, ended.err
    assert "signed by the server as the last adapter of the run" in ended.out
    assert "3 receipts are signed" in ended.out
    assert "4 rounds that the server told follow" in ended.out


def test_verify_names_a_changed_file_of_the_adapter(copy):
    (copy / "adapter" / "adapter_config.json").write_text("{}")
    ended = call("verify", copy)
    assert ended.status == 2
    assert "adapter_config.json is changed" in ended.err


def test_verify_names_a_receipt_that_was_changed(copy):
    path = copy / "receipts.jsonl"
    first, *rest = [json.loads(line) for line in path.open()]
    path.write_text("".join(json.dumps(each) + "\n" for each in (first | {"weight": 0.9}, *rest)))
    ended = call("verify", copy)
    assert ended.status == 2
    assert "the receipt of round 1 is not signed" in ended.err


def test_verify_names_another_update_than_the_signed_one(copy):
    folder = NodeFolder.open(copy)
    other = replace(folder.update, buffer=folder.update.buffer + b"x")
    files = {each.name: each.read_bytes() for each in (copy / "adapter").iterdir()}
    folder.save(other, files)
    ended = call("verify", copy)
    assert ended.status == 2
    assert "the server's key has not signed" in ended.err


@pytest.mark.parametrize("is_kept", [True, False])
def test_verify_says_whether_a_receipt_proves_an_update_of_before_the_end(copy, is_kept):
    folder = NodeFolder.open(copy)
    folder.save(
        replace(folder.update, signature=""), {each.name: each.read_bytes() for each in (copy / "adapter").iterdir()}
    )
    if not is_kept:
        (copy / "receipts.jsonl").unlink()
    ended = call("verify", copy)
    assert ended.status == 0, ended.err
    said = "the receipt of round 3, signed by it, names it" if is_kept else "no receipt names it"
    assert f"not signed by the server as the last adapter of the run; {said}" in ended.out
