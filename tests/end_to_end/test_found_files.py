"""Found by attack: run folders that others can read; links, pipes and devices where a file is read or written."""

import os
import shutil
import stat
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest

from common.errors import IdentityError
from tests.helpers.client.nodes import write_node
from tests.helpers.end_to_end.command import ROOT, TINY, call, end, refusal, settings
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.simulations.runs import BRIEF, hashes, run_tiny, same_result

LANGUAGE = ("data.task=causal-lm", "clients.partition=iid", "base.path=tiny:llama")
PLACES = (
    *("config.toml", "base.toml", "metrics.jsonl", "status.json", "report.html", "notes", "tensorboard", "adapter"),
    *("journal", "journal/log.jsonl", "journal/lock", "journal/told", "journal/round-000004.state", "journal/spool"),
    *("journal/spool/ada", "journal/spool/.state", "journal/updates", "journal/updates/000004", "nodes"),
    *("adapter/adapter_config.json", "adapter/adapter_model.safetensors", ".metrics.jsonl.0123.tmp", "test.toml"),
)
"""Names in a run's folder that somebody can foresee, and one that nobody writes."""


@contextmanager
def umask(bits):
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder):
    """Return the modes of a folder and what is in it, by kind; a run's must be {0o700}, {0o600}."""
    places = [folder, *folder.rglob("*")]
    found = [(place.is_dir(), stat.S_IMODE(place.lstat().st_mode)) for place in places]
    return {mode for folder, mode in found if folder}, {mode for folder, mode in found if not folder}


def open_up(folder, folders=0o755, files=0o644):
    for place in (folder, *folder.rglob("*")):
        place.chmod(folders if place.is_dir() else files)


def content(folder):
    return {place: place.read_bytes() for place in sorted(folder.rglob("*")) if place.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    project = NumpyProject(tmp_path_factory.mktemp("undisturbed"), {"keep_updates": "all"})
    assert project.whole_run(HONEST).status == 0
    return project


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("finished"), *BRIEF, *LANGUAGE)


@pytest.fixture
def project(undisturbed, tmp_path):
    """Return a copy of the undisturbed project, whose run has ended."""
    shutil.copytree(undisturbed.folder, tmp_path, dirs_exist_ok=True)
    copy = object.__new__(NumpyProject)
    copy.folder, copy.port, copy.file = tmp_path, undisturbed.port, tmp_path / "server.toml"
    copy.run, copy.log_file = tmp_path / "runs" / "first", tmp_path / "server.log"
    copy.write_server({"keep_updates": "all"})
    copy.log_file.write_text("")
    return copy


# --- S17: run folders are closed to others ---


@pytest.mark.parametrize("bits", [0o000, 0o022])
def test_found_S17_a_run_is_closed_to_others_whatever_the_umask(bits, undisturbed, tmp_path):
    project = NumpyProject(tmp_path, {"keep_updates": "all"})
    project.admit_new(node.name for node in HONEST)
    with umask(bits):
        assert project.whole_run(HONEST).status == 0
    assert modes(project.run) == ({0o700}, {0o600})
    [invite.unlink() for invite in (tmp_path / "nodes").glob("*.invite")]  # written by the test
    assert modes(tmp_path / "nodes") == ({0o700}, {0o600})
    assert hashes(project.run) == hashes(undisturbed.run)
    assert len([*project.run.rglob("*")]) > 30  # control: also kept updates, curves and checkpoints are there


def test_found_S17_a_simulation_is_closed_and_what_is_given_away_is_the_users(tmp_path):
    with umask(0o000):
        run = run_tiny(tmp_path / "runs", *BRIEF, *LANGUAGE)
        assert call("export", run, tmp_path / "adapter").status == 0
        assert call("merge", run, tmp_path / "merged").status == 0
    assert modes(run) == ({0o700}, {0o600})
    assert (run / "nodes").is_dir()
    assert modes(tmp_path / "adapter") == ({0o777}, {0o666})
    assert stat.S_IMODE((tmp_path / "merged").stat().st_mode) == 0o777


def go_on(project):
    """Go back to the end of round 1, and run the rounds after it again."""
    with project.serving("--from-round", 1) as server, ExitStack() as running:
        for each in HONEST:
            running.callback(project.node(each).stop)
        assert end(server).status == 0


def test_found_S17_an_earlier_run_is_closed_at_the_start_with_one_line(project, undisturbed):
    open_up(project.run)
    go_on(project)
    assert modes(project.run) == ({0o700}, {0o600})
    told = [line for line in project.log if "was open to others" in line]
    assert len(told) == 1
    assert f"{project.run} was open to others (mode 0755), like" in told[0]
    assert hashes(project.run) == hashes(undisturbed.run)


def test_found_S17_a_closed_run_is_not_told_of(project):
    go_on(project)
    assert not [line for line in project.log if "open to others" in line]


def test_found_S17_a_resumed_simulation_is_closed(finished, tmp_path, capfd):
    run = shutil.copytree(finished, tmp_path / "run")
    open_up(run, 0o777, 0o666)
    assert run_resumed(run).status == 0
    assert modes(run) == ({0o700}, {0o600})
    assert same_result(run, finished)


def run_resumed(run):
    return call("simulate", TINY, "--resume", run, *settings(*BRIEF, *LANGUAGE))


def test_found_S17_a_run_that_cannot_be_closed_is_refused(project):
    open_up(project.run)
    for place in (project.run, *project.run.rglob("*")):
        os.chown(place, 12345, 12345)
    ended = as_user(project, "server", project.file)
    assert ended.returncode == 2
    assert (
        f"{project.run} is open to others (mode 0755) and cannot be closed, as it belongs to user 12345" in ended.stderr
    )


def as_user(project, *words):
    """Run the command without root's right to change the modes of others' files (CAP_FOWNER)."""
    command = ["setpriv", "--bounding-set=-fowner", "--inh-caps=-fowner"]
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("needs setpriv, and root to give the folder to another user")
    command += [sys.executable, str(ROOT / "fedlora.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_found_S17_a_folder_of_something_else_is_not_changed(tmp_path):
    project = NumpyProject(tmp_path)
    project.file.write_text('folder = "others"\n' + project.file.read_text())
    project.admit("ada")
    (tmp_path / "others").mkdir(mode=0o755)
    (tmp_path / "others" / "letter").touch(0o644)
    assert "is open to others and is not the folder of a run" in refusal(call("server", project.file))
    assert modes(tmp_path / "others") == ({0o755}, {0o644})


# --- S18: nothing is opened through a link ---


def plant(run, name, kind, outside):
    """Put a link at this name of a run, in place of what was there, to a file or folder outside."""
    place, target = run / name, outside / "victim"
    was_folder = place.is_dir()
    if place.exists():
        place.replace(outside / "moved")
        target = outside / "moved"
    elif kind != "dangling":
        target.write_text("precious")
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "dangling":
        target = outside / "nothing"
    if kind == "hard" and not was_folder:
        place.hardlink_to(target)
    else:
        place.symlink_to(target)
    return place


@pytest.mark.parametrize("kind", ["link", "dangling", "hard"])
@pytest.mark.parametrize("name", PLACES)
def test_found_S18_a_server_opens_nothing_through_a_link(name, kind, project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    place = plant(project.run, name, kind, outside)
    before, others = content(outside), content(project.run)
    message = refusal(call("server", project.file))
    assert str(place) in message
    assert re_link(message)
    assert content(outside) == before
    assert content(project.run) == others
    assert not (outside / "nothing").exists()


def re_link(message):
    return "it is a symbolic link" in message or "is a hard link" in message


@pytest.mark.parametrize("name", ["test.toml", "nodes/station.jsonl", "report.html", "metrics.jsonl", "tensorboard"])
def test_found_S18_a_simulation_opens_nothing_through_a_link(name, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "outside").mkdir()
    place = plant(run, name, "link", tmp_path / "outside")
    before = content(tmp_path / "outside")
    message = refusal(run_resumed(run))
    assert str(place) in message
    assert re_link(message)
    assert content(tmp_path / "outside") == before


@pytest.mark.parametrize("words", [("evaluate",), ("verify",), ("export", "OUT"), ("merge", "OUT"), ("generate", "-p")])
@pytest.mark.parametrize("name", ["adapter/adapter_model.safetensors", "journal", "test.jsonl", "notes", "config.toml"])
def test_found_S18_no_reader_of_a_run_follows_a_link(name, words, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "outside").mkdir()
    place = plant(run, name, "link", tmp_path / "outside")
    command, *rest = words
    options = {"OUT": [tmp_path / "out"], "-p": ["--prompt", "a b"]}
    message = refusal(call(command, run, *(word for each in rest for word in options[each])))
    assert f"{place} cannot be in the folder of a run: it is a symbolic link" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["status.json", "config.toml", "journal/log.jsonl", "notes"])
def test_found_S18_a_status_follows_no_link(name, project, tmp_path_factory):
    place = plant(project.run, name, "link", tmp_path_factory.mktemp("outside"))
    assert f"{place} cannot be in the folder of a run: it is a symbolic link" in refusal(call("status", project.file))


def test_found_S18_a_run_may_lie_behind_its_users_own_links(project, undisturbed, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    shutil.move(project.run, disk / "first")
    project.run.symlink_to(disk / "first")
    open_up(disk / "first")
    go_on(project)
    assert modes(disk / "first") == ({0o700}, {0o600})
    assert hashes(project.run) == hashes(undisturbed.run)


def test_found_S18_a_run_does_not_lie_behind_the_link_of_somebody_else(project, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    shutil.move(project.run, disk / "first")
    project.run.symlink_to(disk / "first")
    try:
        os.lchown(project.run, 12345, 12345)
    except PermissionError:
        pytest.skip("needs root to give a link to another user")
    assert "a symbolic link of somebody else" in refusal(call("server", project.file))


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key", "roster.json", "roster.pub"])
def test_found_S18_keys_are_not_read_through_a_link(name, project, tmp_path_factory):
    plant(project.folder / "keys", name, "link", tmp_path_factory.mktemp("outside"))
    message = refusal(call("server", project.file))
    assert f"{project.folder / 'keys' / name}: is a symbolic link; put the file itself there" in message


def test_found_S18_a_node_writes_nothing_through_a_link(undisturbed, tmp_path, tmp_path_factory):
    project, outside = NumpyProject(tmp_path), tmp_path_factory.mktemp("outside")
    project.admit_new(node.name for node in HONEST)
    for name in ("ada.receipts", "ada.sent", "bob.receipts", "bob.sent"):
        (outside / name).write_text("precious")
        (tmp_path / "nodes" / name).symlink_to(outside / ("nothing" if "bob" in name else name))
    before = content(outside)
    assert project.whole_run(HONEST).status == 0
    assert content(outside) == before
    assert hashes(project.run) == hashes(undisturbed.run)
    assert (tmp_path / "nodes" / "cyd.receipts").stat().st_size  # control


@pytest.mark.parametrize("name", ["ada.roster", "ada.rounds", "ada.invite", "ada.key"])
def test_found_S18_a_node_reads_nothing_through_a_link(name, project, tmp_path_factory):
    assert (project.folder / "nodes" / name).is_file()
    plant(project.folder / "nodes", name, "link", tmp_path_factory.mktemp("outside"))
    with pytest.raises(IdentityError, match=f"{name}: is a symbolic link; put the file itself there"):
        project.node(HONEST[0])


# --- S22: pipes, devices and sockets are refused at once ---


@pytest.mark.parametrize("name", ["status.json", "metrics.jsonl", "config.toml", "journal/log.jsonl", "adapter/a"])
def test_found_S22_a_pipe_in_a_run_is_refused_at_once(name, project):
    (project.run / name).unlink(missing_ok=True)
    os.mkfifo(project.run / name)
    for words in (("server", project.file), ("status", project.file), ("verify", project.run)):
        assert f"{project.run / name} cannot be in the folder of a run: it is a pipe" in refusal(call(*words))


@pytest.fixture(params=["a pipe", "a device", "a folder"])
def odd(request, tmp_path):
    """Return a function that puts something that is no file at a path, and what errors call it."""

    def put(path):
        path.unlink(missing_ok=True)
        if request.param == "a pipe":
            os.mkfifo(path, 0o600)
        elif request.param == "a device":
            path.symlink_to("/dev/zero")
        else:
            path.mkdir(mode=0o700)
        return request.param

    return put


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.tsv", "rows.parquet", "rows.ndjson"])
def test_found_S22_rows_are_a_file(name, odd, tmp_path):
    node, what = write_node(tmp_path, data=name, server="localhost:1", keys="keys"), odd(tmp_path / name)
    for options in (("--check",), ()):
        assert f"{what}, not a file" in refusal(call("client", node, *options))


def test_found_S22_settings_are_a_file(odd, tmp_path):
    what = odd(tmp_path / "some.toml")
    for words in (("client",), ("client", "--check"), ("server",), ("status",), ("simulate",)):
        message = refusal(call(words[0], tmp_path / "some.toml", *words[1:]))
        assert f"some.toml: it is {what}, not a file" in message


def test_found_S22_a_request_is_a_file(odd, project):
    odd(project.folder / "eve.request")
    words = ("--max-rank", 4, "--max-weight", 10, "--dir", project.folder / "keys")
    message = refusal(call("keys", "admit", project.folder / "eve.request", *words))
    assert "is not a plain file" in message or "is a folder" in message


def test_found_S22_a_base_that_a_server_names_is_a_file(odd, tmp_path):
    project = NumpyProject(tmp_path)
    project.admit("ada")
    what = odd(tmp_path / "base.toml")
    assert f"base.toml: it is {what}, not a file" in refusal(call("server", project.file))


@pytest.mark.parametrize("name", ["server.key", "roster.json", "ca.pem"])
def test_found_S22_keys_are_files(name, odd, project):
    odd(project.folder / "keys" / name)
    assert f"{project.folder / 'keys' / name}: is a" in refusal(call("server", project.file)).replace(
        "is not a", "is a"
    )


def test_found_S22_a_file_that_is_too_large_is_not_read(project):
    for path, words in (
        (project.folder / "big.toml", ("server", "big.toml")),
        (project.folder / "big.toml", ("client", "big.toml")),
        (project.folder / "eve.request", ("keys", "admit", "eve.request", "--max-rank", 4, "--max-weight", 10)),
        (project.run / "status.json", ("status", "server.toml")),
    ):
        with path.open("wb") as file:
            file.truncate(2**40)
        ended = call(*(project.folder / word if "." in str(word) else word for word in words))
        assert "more than" in refusal(ended) or "larger than" in refusal(ended)
