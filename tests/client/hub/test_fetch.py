"""`fedlora fetch` from a hub, here one on loopback."""

import json

import pytest
from huggingface_hub import constants, errors, get_session

from simulations.tiny_base import tiny_base
from tests.helpers.client.hub_files import COMMIT, Shelf, serving_files
from tests.helpers.end_to_end.command import call, end, refusal, start
from tests.helpers.simulations.runs import toy_rows

PICKLES = {"pytorch_model.bin": b"pickle", "modeling_own.py": b"code", "onnx/model.onnx": b"other"}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Let there be no token and no cache of the user."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "cache"))
    monkeypatch.chdir(tmp_path)


def model():
    return {file.name: file.read_bytes() for file in tiny_base("bert").iterdir()}


def rows():
    return "".join(f"{json.dumps(row)}\n" for row in toy_rows(text="text", label="label")).encode()


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def fetch(shelf, monkeypatch, *words):
    with serving_files(shelf):
        monkeypatch.setattr(constants, "ENDPOINT", shelf.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", shelf.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        return call("fetch", *words)


def test_a_model_becomes_a_folder_without_pickles(tmp_path, monkeypatch):
    ended = fetch(Shelf(model() | PICKLES), monkeypatch, "org/base")
    assert ended.status == 0, ended.err
    assert contents(tmp_path / "base") == model()
    assert f"fetched: base (org/base at {COMMIT[:12]}, {len(model())} files, " in ended.out
    assert "left out (pickles, which could run code): pytorch_model.bin" in ended.out
    assert "left out (code, which is never run): modeling_own.py" in ended.out
    assert [each.name for each in tmp_path.iterdir()] == ["base"]


def test_in_a_process_of_its_own_it_goes_online_and_tells_each_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with serving_files(Shelf(model())) as shelf:
        monkeypatch.setenv("HF_ENDPOINT", shelf.address)
        ended = end(start("fetch", "org/base", tmp_path / "here"))
    assert ended.status == 0, ended.err
    assert contents(tmp_path / "here") == model()
    assert f"/{len(model())} model.safetensors, " in ended.err
    assert "\r" not in ended.err


def test_a_fetched_model_is_a_base(tmp_path, monkeypatch):
    fetch(Shelf(model()), monkeypatch, "org/base")
    (tmp_path / "rows.jsonl").write_bytes(rows())
    assert call("check", "rows.jsonl", "--base", "base").status == 0


def test_a_data_set_keeps_its_folders_and_is_read(tmp_path, monkeypatch):
    files = {"README.md": b"", "data/train.jsonl": rows(), "load.py": b""}
    ended = fetch(Shelf(files, "datasets/org/rows"), monkeypatch, "org/rows", "--dataset")
    assert ended.status == 0, ended.err
    assert contents(tmp_path / "rows").keys() == {"README.md", "data/train.jsonl"}
    assert "next: fedlora check rows/data" in ended.out
    assert call("check", "rows/data").status == 0


def test_splits_are_named(monkeypatch):
    files = {"data/train.jsonl": rows(), "data/test.jsonl": rows()}
    ended = fetch(Shelf(files, "datasets/org/rows"), monkeypatch, "org/rows", "--dataset")
    assert '"rows/data/test", "rows/data/train"' in ended.out


def test_an_interrupted_fetch_leaves_no_folder_and_the_next_goes_on(tmp_path, monkeypatch):
    ended = fetch(Shelf(model(), refuses=[*model()][-1]), monkeypatch, "org/base")
    assert ended.status == 1
    assert "org/base could not be fetched from http://127.0.0.1:" in ended.err
    assert "the command goes on where it stopped" in ended.err
    assert not (tmp_path / "base").exists()
    second = Shelf(model())
    assert fetch(second, monkeypatch, "org/base").status == 0
    assert contents(tmp_path / "base") == model()
    fetched = [path for command, path, _ in second.asked if command == "GET" and "/resolve/" in path]
    assert 0 < len(fetched) < len(model())
    assert [each.name for each in tmp_path.iterdir()] == ["base"]


def test_a_file_whose_connection_ends_is_taken_up_where_it_was(tmp_path, monkeypatch):
    """The library writes pieces of 10 MB."""
    large = {"config.json": b"{}", "model.safetensors": bytes(24 << 20)}
    shelf = Shelf(large, breaks="model.safetensors")
    assert fetch(shelf, monkeypatch, "org/base").status == 0
    assert contents(tmp_path / "base") == large
    assert {begin for _, path, begin in shelf.asked if path.endswith("/model.safetensors")} > {None}


def test_a_damaged_file_is_no_model(tmp_path, monkeypatch):
    ended = fetch(Shelf(model(), lies="model.safetensors"), monkeypatch, "org/base")
    assert ended.status == 1
    assert "model.safetensors is damaged" in ended.err
    assert not (tmp_path / "base").exists()


def test_a_hub_that_is_not_there_is_no_traceback(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    ended = call("fetch", "org/base")
    assert ended.status == 1
    assert "could not be fetched from http://127.0.0.1:9" in ended.err
    assert "Traceback" not in ended.err


def test_a_name_that_is_not_there_is_refused(monkeypatch):
    message = refusal(fetch(Shelf({}), monkeypatch, "org/bse"))
    assert "has no model 'org/bse'" in message
    assert "add --dataset" in message
    assert "HF_TOKEN" in message


def test_a_revision_that_is_not_there_is_refused(monkeypatch):
    message = refusal(fetch(Shelf(model()), monkeypatch, "org/base", "--revision", "v9"))
    assert message == "error: org/base has no revision 'v9'; name a branch, a tag or a commit of it\n"


def test_a_gated_model_says_where_to_accept_its_terms(tmp_path, monkeypatch):
    shelf = Shelf(model(), gated=True)
    message = refusal(fetch(shelf, monkeypatch, "org/base")).splitlines()[-1]
    assert f"org/base is gated: accept its terms at {shelf.address}/org/base, then set HF_TOKEN" in message
    assert not (tmp_path / "base").exists()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    ended = fetch(Shelf(model(), gated=True), monkeypatch, "org/base")
    assert ended.status == 0
    assert "hf_secret" not in ended.out + ended.err


def test_a_model_of_pickles_alone_is_refused(tmp_path, monkeypatch):
    message = refusal(fetch(Shelf({"config.json": b"{}", "pytorch_model.bin": b""}), monkeypatch, "org/base"))
    assert (
        "org/base has no weights in safetensors (left out (pickles, which could run code): pytorch_model.bin)"
        in message
    )
    assert not (tmp_path / "base").exists()


def test_a_data_set_without_rows_is_refused(monkeypatch):
    shelf = Shelf({"README.md": b"", "load.py": b""}, "datasets/org/rows")
    assert "org/rows has no files of rows" in refusal(fetch(shelf, monkeypatch, "org/rows", "--dataset"))


@pytest.mark.parametrize("name", ["", "a/b/c", "../a", "org/my model"])
def test_what_is_no_name_is_refused(name):
    assert refusal(call("fetch", "--", name)) == f"error: {name!r} is not a name on a hub; write ORG/NAME\n"


def test_a_folder_is_never_overwritten(tmp_path):
    (tmp_path / "base").mkdir()
    assert "base exists and is left as it is" in refusal(call("fetch", "org/base"))


def test_afterwards_the_library_is_offline_again(monkeypatch):
    shelf = Shelf(model())
    assert fetch(shelf, monkeypatch, "org/base").status == 0
    with pytest.raises(errors.OfflineModeIsEnabled):
        get_session().get(shelf.address)
