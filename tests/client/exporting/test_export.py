"""The options of an export, and what it never tells (client/exporting/)."""

import json
import shutil

import pytest

from client.finished.run import load_run
from tests.helpers.client.exporting import exported
from tests.helpers.end_to_end.command import call, refusal


def test_a_folder_under_a_file_is_refused(wide, tmp_path):
    (tmp_path / "file").touch()
    assert "which is a file" in refusal(call("export", wide, tmp_path / "file" / "sub" / "out"))


@pytest.mark.parametrize("form", ["peft", "gguf"])
def test_a_rank_above_what_is_there_is_refused(wide, tmp_path, form):
    message = refusal(call("export", wide, tmp_path / "out", "--format", form, "--rank", 33))
    assert message == "error: --rank 33 is above 32, the largest rank of this run's modules; give at most that\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--format", "merged", "--rank", 4), "--rank 4: a merged model has no rank; leave it out"),
        (("--dtype", "float16"), "--dtype float16 is for --format merged; adapters are float32"),
        (
            ("--base-name", "/home/operator/base"),
            "--base-name '/home/operator/base' is not a name on a hub; write ORG/",
        ),
        (("--format", "onnx"), "onnx"),
    ],
)
def test_options_that_do_not_fit_are_refused(wide, tmp_path, words, reason):
    ended = call("export", wide, tmp_path / "out", *words)
    assert ended.status == 2
    assert reason in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("asked", "named"), [({}, "tiny:llama"), ({"base_name": "org/llama"}, "org/llama"), ({"base_name": "gpt2"}, "gpt2")]
)
def test_found_A3_an_export_names_the_base_and_no_folder(wide, tmp_path, asked, named):
    exported(wide, tmp_path / "out", **asked)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == named


def test_found_A3_an_old_run_that_has_a_path_gives_its_last_part(wide, tmp_path):
    run = shutil.copytree(wide, tmp_path / "run")
    shutil.rmtree(run / "journal")  # the log has the files' hashes
    file = run / "adapter" / "adapter_config.json"
    file.write_text(file.read_text().replace('"tiny:llama"', '"/home/operator/models/llama"'))
    exported(run, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == "llama"
    assert "operator" not in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("form", ["peft", "gguf", "merged"])
def test_found_A3_no_file_of_an_export_has_a_folder_of_this_machine(wide, tmp_path, form):
    exported(wide, tmp_path / "out", form=form)
    places = {str(tmp_path), str(wide.parent), str(load_run(wide).base.folder.parent)}
    contents = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert contents
    assert [file for file, content in contents.items() if any(place.encode() in content for place in places)] == []


def test_a_failed_export_leaves_nothing(run_of, tmp_path):
    assert call("export", run_of("gpt2 words"), tmp_path / "out", "--format", "merged").status == 2
    assert list(tmp_path.iterdir()) == []
