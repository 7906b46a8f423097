"""Found by faults: a round that is in the log is published, told, and checked by whoever reads what it published."""

import json
import shutil

import pytest

from common.hash_chain import Chain
from server.storage.journal_reader import verify_chain, verify_journal
from tests.helpers.end_to_end.command import TINY, call, refusal, settings
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.patched_server import FULL, KILL, at_publication, no_file_beyond, run_patched
from tests.helpers.simulations.runs import BRIEF, hashes, records, run_tiny

FILES = ("adapter_model.safetensors", "adapter_config.json")
LANGUAGE = ("data.task=causal-lm", "clients.partition=iid", "base.path=tiny:llama")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("finished"), *BRIEF, *LANGUAGE)


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("common.published.SETTLE", 0.0)
    return shutil.copytree(finished, tmp_path / "run")


def adapter(run):
    return {name: (run / "adapter" / name).read_bytes() for name in FILES}


def receipts(project):
    lines = [json.loads(line) for line in (project.folder / "nodes" / "ada.receipts").read_text().splitlines()]
    return [line["round"] for line in lines]


def flip(path, position=-3):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def respace(run):
    """Let the settings of the published adapter end in a space, not a newline."""
    path = run / "adapter" / FILES[1]
    path.write_bytes(path.read_bytes()[:-1] + b" ")


# --- R1: killed between the log's line and the publication ---


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("act", [KILL, FULL])
def test_found_R1_a_round_that_was_not_published_is_at_the_next_start(number, act, undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    ended = run_patched(project, HONEST, at_publication(number, act))
    assert ended.status == (-9 if act == KILL else 1), ended.err
    assert "Traceback" not in ended.err
    assert len(verify_journal(project.run / "journal")) == number + 1
    if number:
        assert f"it is not what round {number} published" in refusal(call("verify", project.run))
    assert project.whole_run(HONEST).status == 0
    assert hashes(project.run) == hashes(undisturbed.run)
    assert adapter(project.run) == adapter(undisturbed.run)
    assert receipts(project) == receipts(undisturbed) == [1, 2, 3]
    assert call("verify", project.run).out.startswith("intact: rounds 0 to 3")


def test_found_R1_what_is_published_is_left_alone(undisturbed):
    before = {name: (undisturbed.run / "adapter" / name).stat().st_mtime_ns for name in FILES}
    assert undisturbed.whole_run(HONEST).status == 0
    assert {name: (undisturbed.run / "adapter" / name).stat().st_mtime_ns for name in FILES} == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["flipped", "missing", "folder"])
def test_found_R1_another_base_name_does_not_change_what_was_published(name, fault, undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    assert project.whole_run(HONEST).status == 0
    file = project.run / "adapter" / name
    if fault == "flipped":
        flip(file)
    else:
        file.unlink() if fault == "missing" else shutil.rmtree(file.parent)
    project.write_server({}, base={"file": "base.toml", "name": "another name"})
    assert project.whole_run(HONEST).status == 0
    assert adapter(project.run) == adapter(undisturbed.run)


def test_found_R1_a_simulation_publishes_at_its_resumption(run, finished):
    flip(run / "adapter" / FILES[0])
    assert call("evaluate", run).status == 2
    again = [TINY, "--resume", run, *settings(*BRIEF, *LANGUAGE)]
    assert call("simulate", *again).status == 0
    assert adapter(run) == adapter(finished)
    assert call("evaluate", run).out == call("evaluate", finished).out


# --- R3: one bit flipped in adapter/ ---

READERS = {
    "evaluate": lambda run, out: call("evaluate", run),
    "export": lambda run, out: call("export", run, out),
    "merge": lambda run, out: call("merge", run, out),
    "generate": lambda run, out: call("generate", run, "--prompt", "cow barn", "--tokens", 2),
    "verify": lambda run, out: call("verify", run),
}


@pytest.mark.parametrize("reader", READERS)
def test_found_R3_every_reader_of_an_adapter_checks_its_hash(reader, run, tmp_path):
    for name in FILES:
        file = run / "adapter" / name
        content = file.read_bytes()
        for position in (0, len(content) // 2, -1):
            flip(file, position)
            message = refusal(READERS[reader](run, tmp_path / "out"))
            for part in (f"{file} is changed", "round 2", "run the command again", "copy"):
                assert part in message
            flip(file, position)
        file.unlink()
        assert f"{file} is missing" in refusal(READERS[reader](run, tmp_path / "out"))
        file.write_bytes(content)
    assert not (tmp_path / "out").exists()
    assert READERS[reader](run, tmp_path / "out").status == 0


def test_found_R3_the_adapter_of_another_round_or_run_is_no_substitute(run, undisturbed):
    for name in FILES:
        shutil.copy(undisturbed.run / "adapter" / name, run / "adapter" / name)
    assert "is changed" in refusal(call("evaluate", run))


def test_found_R3_a_log_whose_hashes_were_changed_too_is_refused(run):
    log = run / "journal" / "log.jsonl"
    *before, last = log.read_text().splitlines(keepends=True)
    old = json.loads(last)["files"][FILES[0]]
    log.write_text("".join([*before, last.replace(old, "0" * 64)]))
    assert "line 3 (round 2) is changed" in refusal(call("evaluate", run))


def test_found_R3_an_adapter_and_test_rows_alone_can_still_be_used(run):
    shutil.rmtree(run / "journal")
    respace(run)  # nothing to compare with, and nothing that matters
    assert call("evaluate", run).status == 0


def test_found_R3_an_earlier_release_recorded_no_hashes(run):
    log = run / "journal" / "log.jsonl"
    chain = Chain()
    lines = []
    for entry in verify_chain(run / "journal").entries:
        content = {k: v for k, v in entry.items() if k not in ("files", "base_name", "hash", "previous")}
        lines.append(chain.next_line(content))
        chain = chain.followed_by(lines[-1])
    log.write_bytes(b"".join(lines))
    respace(run)
    assert call("evaluate", run).status == call("verify", run).status == 0


def test_found_R3_a_round_that_is_being_published_is_waited_for(run, monkeypatch):
    """As beside a running server: the log is new, and the adapter comes a moment later."""
    monkeypatch.setattr("common.published.SETTLE", 600.0)
    file, looks = run / "adapter" / FILES[0], []
    (run / "journal" / "log.jsonl").touch()
    content = file.read_bytes()
    file.write_bytes(b"that of the round before")

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            file.write_bytes(content)

    monkeypatch.setattr("common.published.time.sleep", sleep)
    assert call("verify", run).status == 0
    assert len(looks) == 3


# --- R10: a full disk at the next start ---


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_found_R10_a_full_disk_at_the_start_names_file_need_and_remedy(size, undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    shutil.copytree(undisturbed.folder, tmp_path, dirs_exist_ok=True)
    project.write_server({})
    ended = run_patched(project, [], no_file_beyond(size))
    assert ended.status == 1, ended.err
    error = ended.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "Traceback" not in ended.err
    assert "free about" in error
    assert f" for {project.run}" in error
    assert "resume with: fedlora server" in error
    assert project.whole_run(HONEST).status == 0
    assert adapter(project.run) == adapter(undisturbed.run)
    assert len(records(project.run)) == 4


def test_found_R10_a_full_disk_in_a_round_names_file_need_and_remedy(tmp_path):
    project = NumpyProject(tmp_path)
    ended = run_patched(project, HONEST, no_file_beyond(5000))
    assert ended.status == 1
    error = ended.err.splitlines()[-1]
    assert "free about" in error
    assert f" for {project.run / 'journal'}" in error
    assert f"fedlora server {project.file}" in error
    assert project.whole_run(HONEST).status == 0
