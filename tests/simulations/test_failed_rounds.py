import shutil
import subprocess

import pytest

from common.adapters.adapter import zeros
from common.huggingface.peft_folder import write_peft_folder
from tests.helpers.end_to_end.command import TINY, call, settings
from tests.helpers.simulations.runs import entries, records, same_result
from tests.simulations.conftest import RESUMED

UNSTABLE = ("train.clip=0", "train.lr=1e30", "train.rounds=2", "workers=1")


def failure(ended):
    """Return the message of a run that failed midway."""
    assert ended.status == 1, ended
    assert "Traceback" not in ended.out + ended.err
    assert "run:" not in ended.out
    return ended.err


def test_a_round_whose_clients_are_all_refused_did_not_happen(tmp_path):
    message = failure(call("simulate", TINY, "--out", tmp_path, "--name", "run", *settings(*UNSTABLE)))
    assert "every client of round 1 was rejected" in message
    assert all(f"client-0{number}: nan" in message for number in range(4))
    assert "round 0 is intact" in message
    assert [entry["round"] for entry in entries(tmp_path / "run")] == [0]
    assert len(records(tmp_path / "run")) == 1
    assert call("verify", tmp_path / "run").status == 0


def test_going_on_after_it_fails_again_and_loses_nothing(tmp_path):
    call("simulate", TINY, "--out", tmp_path, "--name", "run", *settings(*UNSTABLE))
    before = entries(tmp_path / "run")
    assert "round 0 is intact" in failure(call("simulate", TINY, "--resume", tmp_path / "run", *settings(*UNSTABLE)))
    assert entries(tmp_path / "run") == before


@pytest.fixture
def disk(tmp_path):
    """Mount a file system whose size can be set repeatedly."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def resize(size):
        nonlocal mounted
        options = f"remount,size={size}" if mounted else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount a file system")
        mounted = True
        return folder

    yield resize
    if mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("size", ["40k", "96k", "200k"])
def test_a_full_disk_loses_no_round(disk, undisturbed, size):
    run = disk(size) / "run"
    message = failure(begin(disk(size)))
    assert "No space left on device" in message
    assert "--resume" in message
    before = entries(run) if (run / "journal" / "log.jsonl").exists() else ()
    disk("50m")
    assert call("simulate", TINY, "--resume", run, *settings(*RESUMED)).status == 0
    assert entries(run)[: len(before)] == before
    assert same_result(run, undisturbed)


def test_a_commit_on_a_full_disk_names_the_round_that_is_intact(disk):
    for size in range(160, 400, 12):  # It may be full elsewhere than at a commit.
        folder = disk(f"{size}k")
        shutil.rmtree(folder / "run", ignore_errors=True)
        if "is not committed" in (message := failure(begin(folder))):
            break
    last = len(entries(folder / "run")) - 1
    assert f"round {last + 1} is not committed: [Errno 28] No space left on device; round {last} is intact" in message
    assert f"resume with: fedlora simulate {TINY} --resume {folder / 'run'}" in message


def test_an_adapter_on_a_full_disk_is_an_error_of_the_disk(disk):
    with pytest.raises(OSError, match="No space left on device"):
        write_peft_folder(disk("8k"), zeros({"layer": (512, 512)}, 8), (), "base", "causal-lm")


@pytest.mark.slow
@pytest.mark.parametrize("size", range(100, 900, 28))
def test_wherever_the_disk_is_full(disk, undisturbed, size):
    ended = begin(disk(f"{size}k"))
    assert ended.status in (0, 1)
    assert "Traceback" not in ended.err
    run = disk("50m") / "run"
    if ended.status:
        assert call("simulate", TINY, "--resume", run, *settings(*RESUMED)).status == 0
    assert same_result(run, undisturbed)


def begin(out):
    return call("simulate", TINY, "--out", out, "--name", "run", *settings(*RESUMED))
