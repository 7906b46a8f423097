"""Upload of an export to a hub (client/exporting/push.py), here one on loopback; offline everywhere else."""

import pytest
from huggingface_hub import constants, errors, get_session

from tests.helpers.client.hub import serving_hub
from tests.helpers.end_to_end.command import call, end, refusal, start


@pytest.fixture(autouse=True)
def token(monkeypatch, tmp_path):
    """Let there be a token, but in no file of the user."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_folder_is_uploaded_whole_to_a_private_model(wide, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with serving_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        ended = end(start("export", wide, out, "--rank", 2, "--push", "org/mine"))
    assert (ended.status, ended.out.splitlines()[-1]) == (0, f"pushed: {hub.address}/org/mine/commit/{'a' * 40}")
    assert hub.files == contents(out)
    assert hub.files.keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    ((created),) = hub.created
    assert (created["name"], created["organization"]) == ("mine", "org")
    assert created.get("private") is True or created.get("visibility") == "private"
    assert hub.tokens == {"Bearer hf_secret"}
    assert b"PeftModel.from_pretrained(base, 'org/mine')" in hub.files["README.md"]
    assert "hf_secret" not in ended.out + ended.err


def test_without_push_nothing_is_sent(wide, tmp_path, monkeypatch):
    with serving_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        assert call("export", wide, tmp_path / "out").status == 0
    assert hub.paths == []


def test_a_refused_upload_leaves_the_folder_and_says_how_to_go_on(wide, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with serving_hub(refuses=507) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        ended = call("export", wide, out, "--push", "org/mine")
    assert ended.status == 1
    assert f"error: {out} is written, but could not be uploaded: " in ended.err
    assert f"; upload it with: hf upload --private org/mine {out}\n" in ended.err
    assert "hf_secret" not in ended.err
    assert contents(out).keys() == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert hub.files == {}


def test_after_an_upload_the_library_is_offline_again(wide, tmp_path, monkeypatch):
    with serving_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        assert call("export", wide, tmp_path / "out", "--push", "org/mine").status == 0
        with pytest.raises(errors.OfflineModeIsEnabled):
            get_session().get(hub.address)


@pytest.mark.parametrize("name", ["", "mine", "org/mine/more", "/org/mine", "../mine", "org/mine name"])
def test_a_push_without_the_name_of_a_model_is_refused_before_anything_is_written(wide, tmp_path, name):
    message = refusal(call("export", wide, tmp_path / "out", "--push", name))
    assert message == f"error: --push {name!r} is not a name on a hub; write ORG/NAME\n"
    assert not (tmp_path / "out").exists()


def test_a_push_without_any_name_is_refused(wide, tmp_path):
    ended = call("export", wide, tmp_path / "out", "--push")
    assert ended.status == 2
    assert "requires an argument" in ended.err
    assert not (tmp_path / "out").exists()


def test_a_push_without_a_token_is_refused_before_anything_is_written(wide, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    message = refusal(call("export", wide, tmp_path / "out", "--push", "org/mine"))
    assert message == "error: --push org/mine needs a token of the hub; set HF_TOKEN, or type `hf auth login` once\n"
    assert not (tmp_path / "out").exists()
