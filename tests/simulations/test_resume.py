import json
import random
import shutil
import signal
import time

import pytest

from server.storage.journal_reader import verify_journal
from tests.helpers.end_to_end.command import TINY, call, end, settings, start
from tests.helpers.simulations.runs import entries, hashes, records, run_tiny, same_result, wait_for_line
from tests.simulations.conftest import RESUMED


def resume(run, *more):
    return call("simulate", TINY, "--resume", run, *settings(*RESUMED, *more))


def begin(out):
    return start("simulate", TINY, "--out", out, "--name", "run", *settings(*RESUMED))


def stopped(out, file, lines, stop, status):
    """Return a run that this signal stopped once the file had so many lines; on a busy machine it may end before."""
    for attempt in range(10):
        process = begin(out / str(attempt))
        wait_for_line(process, out / str(attempt) / "run" / file, lines)
        process.send_signal(stop)
        if end(process).status == status:
            return out / str(attempt) / "run"
    pytest.fail("every run had ended before it was stopped")


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("journal/log.jsonl", 1),
        ("metrics.jsonl", 3),
        pytest.param("metrics.jsonl", 1, marks=pytest.mark.slow),
        pytest.param("journal/log.jsonl", 2, marks=pytest.mark.slow),
        pytest.param("journal/log.jsonl", 5, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(tmp_path, undisturbed, file, lines):
    run = stopped(tmp_path, file, lines, signal.SIGKILL, -signal.SIGKILL)
    committed = hashes(run)
    assert lines <= len(committed) < 6
    ended = resume(run)
    assert (ended.status, ended.out.splitlines()[-1]) == (0, f"run: {run}")
    assert hashes(run)[: len(committed)] == committed
    assert same_result(run, undisturbed)
    assert (run / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_time_twice(tmp_path, undisturbed, seed):
    wait = random.Random(seed)
    process = begin(tmp_path)
    wait_for_line(process, tmp_path / "run" / "config.toml", 1)
    for _ in range(2):
        time.sleep(wait.uniform(0, 0.8))
        process.send_signal(signal.SIGKILL)
        assert end(process).status in (0, -signal.SIGKILL)
        process = start("simulate", TINY, "--resume", tmp_path / "run", *settings(*RESUMED))
        wait_for_line(process, tmp_path / "run" / "journal" / "log.jsonl", 2)
    assert end(process).status == 0
    assert same_result(tmp_path / "run", undisturbed)


def test_ctrl_c_ends_with_130_at_once_and_tells_how_to_go_on(tmp_path):
    # Each round would take minutes, and the workers are in the middle of one.
    long = settings(*RESUMED, "train.steps=20000")
    process = start("simulate", TINY, "--out", tmp_path, "--name", "run", *long)
    wait_for_line(process, tmp_path / "run" / "metrics.jsonl", 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"--resume {tmp_path / 'run'}" in err
    assert "Traceback" not in out + err
    assert len(hashes(tmp_path / "run")) == 1


def test_a_run_stopped_by_ctrl_c_goes_on(tmp_path, undisturbed):
    run = stopped(tmp_path, "metrics.jsonl", 2, signal.SIGINT, 130)
    assert resume(run).status == 0
    assert same_result(run, undisturbed)


def test_ctrl_c_before_the_first_round_leaves_a_plain_end(tmp_path):
    process = begin(tmp_path)
    process.stderr.readline()  # "reading ...": imports are over
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert ended.status == 130
    assert "Traceback" not in ended.err
    assert ended.err.endswith("interrupted while reading base model and data\n")


@pytest.fixture
def copy(tmp_path, undisturbed):
    """Return a copy of a finished run that a test may damage."""
    return shutil.copytree(undisturbed, tmp_path / "copy")


def test_resuming_a_finished_run_changes_nothing(copy, undisturbed):
    before = (copy / "journal" / "log.jsonl").read_bytes()
    assert resume(copy).status == 0
    assert (copy / "journal" / "log.jsonl").read_bytes() == before
    assert same_result(copy, undisturbed)


def test_another_number_of_workers_may_go_on(copy, undisturbed):
    assert resume(copy, "workers=3").status == 0
    assert same_result(copy, undisturbed)


def test_a_torn_last_line_did_not_happen(copy, undisturbed):
    log = copy / "journal" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    assert len(verify_journal(copy / "journal")) == 5
    assert resume(copy).status == 0
    assert same_result(copy, undisturbed)


@pytest.mark.parametrize("damage", ["deleted", "cut", "changed"])
def test_metrics_are_written_anew_from_the_journal(copy, undisturbed, damage):
    metrics, whole = copy / "metrics.jsonl", (undisturbed / "metrics.jsonl").read_text()
    metrics.unlink()
    if damage != "deleted":
        metrics.write_text(whole[: len(whole) // 2] if damage == "cut" else whole.replace("0.25", "0.75"))
    assert resume(copy).status == 0
    assert records(copy) == records(undisturbed)
    assert same_result(copy, undisturbed)


def test_a_lost_adapter_report_and_shards_come_back(copy, undisturbed):
    for name in ("adapter", "nodes", "tensorboard"):
        shutil.rmtree(copy / name)
    (copy / "report.html").unlink()
    (copy / "test.toml").unlink()
    assert resume(copy).status == 0
    assert same_result(copy, undisturbed)
    assert {path.name for path in copy.iterdir()} == {path.name for path in undisturbed.iterdir()}


def test_a_resumed_cohort_is_the_one_that_was_drawn(tmp_path):
    sampled = ("train.rounds=3", "train.steps=2", "server.cohort=2", "workers=1")
    whole = run_tiny(tmp_path, *sampled, name="whole")
    cut = shutil.copytree(whole, tmp_path / "cut")
    log = cut / "journal" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    assert call("simulate", TINY, "--resume", cut, *settings(*sampled)).status == 0
    assert same_result(cut, whole)
    assert all(len([c for c in record["clients"] if c["status"] == "ok"]) == 2 for record in records(cut))


def test_the_comparison_sees_a_changed_bit(copy, undisturbed):
    assert same_result(copy, undisturbed)
    weights = copy / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert not same_result(copy, undisturbed)
    shutil.copy(undisturbed / "adapter" / "adapter_model.safetensors", weights)
    lines = (copy / "metrics.jsonl").read_text().splitlines()
    changed = json.loads(lines[-1]) | {"test_loss": 0.0}
    (copy / "metrics.jsonl").write_text("\n".join([*lines[:-1], json.dumps(changed)]) + "\n")
    assert not same_result(copy, undisturbed)
    assert [entry["round"] for entry in entries(copy)] == [0, 1, 2, 3, 4, 5]


def test_a_run_that_began_before_directions_were_new_goes_on_in_its_first_span(tmp_path):
    """As an earlier release left it: without the key, and with what is now `hold = "never"`."""
    asked = (*RESUMED, "server.mode=b", "server.hold=never")
    whole = run_tiny(tmp_path, *asked, name="whole")
    process = start("simulate", TINY, "--out", tmp_path, "--name", "run", *settings(*asked))
    run = tmp_path / "run"
    wait_for_line(process, run / "journal" / "log.jsonl", 3)
    process.kill()
    end(process)
    config = run / "config.toml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("hold = ")))
    assert len(config.read_text()) < sum(map(len, lines))
    assert 2 < len(hashes(run)) < len(hashes(whole))
    assert call("simulate", TINY, "--resume", run, *settings(*RESUMED, "server.mode=b")).status == 0
    assert same_result(run, whole)
