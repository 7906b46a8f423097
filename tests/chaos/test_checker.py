"""The checker finds each thing that does not hold, and nothing in an honest run."""

import json
import shutil
from dataclasses import replace

import pytest

from common.hash_chain import Chain
from tests.chaos.checker import CHECKS, check
from tests.chaos.finished import Finished
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.server.exchange import NumpyNode

NODES = [NumpyNode("ada", 4), NumpyNode("bob", 2, rows=20), NumpyNode("cyd", 3, rows=5)]


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest") / "project"
    folder.mkdir()
    project = NumpyProject(folder, {"keep_updates": "all"}, rounds=2, base={"file": "base.toml", "max_rank": 4})
    assert project.whole_run(NODES).status == 0
    return folder


@pytest.fixture
def run(honest, tmp_path):
    """Return a copy of the honest run, to be spoilt."""
    folder = shutil.copytree(honest, tmp_path / "project", copy_function=shutil.copy2)
    return Finished(folder, rounds=2, quorum=3, kept=True, nodes=NODES)


def found_by(run):
    return {fault.partition(":")[0] for fault in check(run)}


def relog(run, change):
    """Write the log again, with a chain that holds, after a change of its lines."""
    chain, lines = Chain(), b""
    log = run.lines
    change(log)
    for line in log:
        content = {key: value for key, value in line.items() if key not in ("previous", "hash")}
        written = chain.next_line(content)
        chain = replace(chain, tip=json.loads(written)["hash"])
        lines += written
    (run.journal / "log.jsonl").write_bytes(lines)


def test_an_honest_run_holds(run):
    assert check(run) == []
    relog(run, lambda log: None)
    assert check(run) == []


def twice(log):
    log[2]["accepted"].append(log[2]["accepted"][0])


def heavier(log):
    log[2]["accepted"][0][2] += 1e-6


def stranger(log):
    log[2]["accepted"][0][0] = "eve"


def forged(log):
    log[2]["accepted"][0][3] = "00" * 64


def another_update(log):
    log[2]["accepted"][0][1] = "ab" * 32


def another_adapter(log):
    log[1]["adapter_hash"] = "ab" * 32


def skipped(log):
    log[2]["round"] = 3


def too_few(log):
    del log[2]["accepted"][0]


def another_measure(log):
    log[1]["metrics"]["seconds"] += 1


def another_norm(log):
    log[1]["accepted"][1][4] *= 1.001


DOCTORED = {
    "members": (twice, heavier, stranger, too_few),
    "signed": (forged, another_update, another_adapter),
    "receipts": (heavier, another_update, another_adapter),
    "told": (another_adapter,),
    "rounds": (skipped,),
    "metrics": (another_measure,),
    "same_bits": (another_norm, another_adapter, heavier, another_update),
}


@pytest.mark.parametrize(("name", "change"), [(name, each) for name, many in DOCTORED.items() for each in many])
def test_a_log_that_was_written_anew_does_not_hold(run, name, change):
    relog(run, change)
    assert name in found_by(run)


def append(path, data):
    path.write_bytes(path.read_bytes() + data)


def edit(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


FILES = {
    "a line is changed": (("chain",), lambda run: edit(run.journal / "log.jsonl", b'"round":1', b'"round":7')),
    "the end is cut": (("chain",), lambda run: append(run.journal / "log.jsonl", b"{}")),
    "a receipt is forged": (("receipts",), lambda run: edit(receipts(run), b'"weight": 0.', b'"weight": 0.9')),
    "receipts ran together": (("receipts",), lambda run: edit(receipts(run), b"\n", b"")),
    "a receipt of a lost round": (("receipts",), lambda run: edit(receipts(run), b'"round": 2', b'"round": 9')),
    "another parent was told": (("told",), lambda run: edit(rounds(run), b'"parent": "', b'"parent": "00')),
    "a told round is lost": (("told",), lambda run: edit(rounds(run), b'"round": 2', b'"round": 3')),
    "an adapter's file is changed": (("adapter",), lambda run: append(run.run / "adapter/adapter_config.json", b" ")),
    "an adapter's file is left": (("adapter",), lambda run: append_new(run.run / "adapter/other")),
    "a checkpoint is changed": (("adapter",), lambda run: append(run.journal / "round-000001.state", b"\0")),
    "a checkpoint is left": (("adapter",), lambda run: append_new(run.journal / "round-000000.state")),
    "a round has two lines": (("metrics",), lambda run: double(run.run / "metrics.jsonl")),
    "a reply is spooled": (("leftovers",), lambda run: append_new(run.journal / "spool/ada")),
    "a temporary file is left": (("leftovers",), lambda run: append_new(run.run / "adapter/.x.0a.tmp")),
    "a kept round is lost": (("kept_rounds",), lambda run: shutil.rmtree(run.journal / "updates/000001")),
    "a kept update is changed": (("signed", "verified"), lambda run: append(update(run), b"\0")),
    "the log is gone": (tuple(each.__name__ for each in CHECKS[:3]), lambda run: (run.journal / "log.jsonl").unlink()),
}


def receipts(run):
    return run.folder / "nodes/ada.receipts"


def rounds(run):
    return run.folder / "nodes/bob.rounds"


def update(run):
    return run.journal / "updates/000002/1.ada.update"


def append_new(path):
    path.write_bytes(b"x")


def double(path):
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(True)[-1])


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_was_changed_does_not_hold(run, what):
    names, change = FILES[what]
    change(run)
    assert {*names} <= found_by(run)


def test_a_line_that_a_crash_cut_short_holds_at_the_node_that_was_killed(run):
    append(receipts(run), b'{"project": "de')
    assert found_by(run) == {"receipts"}
    assert check(replace(run, torn=frozenset({"ada"}))) == []


def test_every_check_is_tried():
    tried = {*DOCTORED, *(name for names, _ in FILES.values() for name in names)}
    assert tried == {each.__name__ for each in CHECKS}
