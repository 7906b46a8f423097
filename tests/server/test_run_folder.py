import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event

from common.disk_errors import remedy
from common.errors import JournalError
from common.huggingface.new_head import HeadModule
from common.huggingface.peft_folder import read_peft_folder
from common.settings.reader import read_toml
from server.metrics.clients import ClientMetrics
from server.metrics.rounds import Exactness, TestScore, round_metrics
from server.run_folder import CURVES, RunFolder
from tests.helpers.common.buffers import random_adapter
from tests.helpers.server.exchange import dense, described

SETTINGS = {"seed": 3, "train": {"rounds": 2, "lr": 0.5}, "clients": {"ranks": [1, 2]}}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "runs" / "one", SETTINGS)


def record(number, loss=None):
    clients = [ClientMetrics("ada", 4, 10, bytes_up=7)]
    return round_metrics(number, 1.5, TestScore(loss, {"accuracy": loss}), Exactness(1e-9 if number else None), clients)


def lines(folder):
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]


def points(folder):
    """(round, curve, value) of every point that TensorBoard reads."""
    found = []
    for file in (folder.path / "tensorboard").iterdir():
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            data = data[16 + length :]
    return sorted(found)


def test_it_holds_the_settings(folder):
    assert read_toml(folder.path / "config.toml") == SETTINGS
    assert folder.journal == folder.path / "journal"


def test_a_folder_that_exists_is_left_alone(folder):
    (folder.path / "config.toml").write_text("mine")
    with pytest.raises(
        JournalError, match=r"one already exists; choose another --name, or resume it with --resume .*one"
    ):
        RunFolder.create(folder.path, {})
    assert (folder.path / "config.toml").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"cannot make .*file/run: Not a directory; choose another --out"):
        RunFolder.create(tmp_path / "file" / "run", {})


def test_a_round_is_a_line_and_a_point_on_each_curve(folder):
    records = [record(0), record(1, 0.5)]
    for each in records:
        folder.on_round_committed(each)
    assert lines(folder) == records
    curves = points(folder)
    assert [(step, tag) for step, tag, _ in curves] == sorted(
        (each["round"], tag) for each in records for tag in CURVES if each.get(tag) is not None
    )
    assert (1, "test_loss", 0.5) in curves
    assert (1, "bytes_up", 7.0) in curves
    assert not any(tag == "test_loss" for step, tag, _ in curves if step == 0)


def test_found_D12_a_score_that_is_no_accuracy_has_a_curve_of_its_own(folder):
    measured = TestScore(0.5, {"r2": 0.25})
    folder.on_round_committed(round_metrics(0, 1.5, measured, Exactness(), []))
    (line,) = lines(folder)
    assert (line["test_r2"], line["test_accuracy"], "test_f1" in line) == (0.25, None, False)
    assert [tag for _, tag, _ in points(folder) if tag.startswith("test_")] == ["test_loss", "test_r2"]


def test_rounds_of_a_release_that_measured_less_are_written_too(folder):
    earlier = {key: value for key, value in record(1, 0.5).items() if key != "agreement"}
    folder.restore([{"metrics": earlier}])
    assert lines(folder) == [earlier | {"agreement": None}]
    assert {tag for _, tag, _ in points(folder)} == {*CURVES} - {"agreement"} - unmeasured(earlier)


def unmeasured(fields):
    return {tag for tag in CURVES if fields.get(tag) is None}


def test_metrics_and_curves_are_written_anew_from_the_journal(folder):
    """Leftovers of a crash in the last round are removed, and the lines that it did not write are added."""
    folder.on_round_committed(record(0))
    before = points(folder)
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"round": 1, "sec')
    (folder.path / "adapter").mkdir()
    for name in (".status.json.0123.tmp", "adapter/.adapter_model.safetensors.0123.tmp"):
        (folder.path / name).touch()
    folder.restore([{"metrics": record(0)}, {"metrics": record(1)}])
    assert not [*folder.path.rglob("*.tmp")]
    assert lines(folder) == [record(0), record(1)]
    assert {step for step, *_ in points(folder)} == {0, 1}
    assert [point for point in points(folder) if point[0] == 0] == before
    folder.restore([])
    assert lines(folder) == []
    assert not (folder.path / "tensorboard").exists()


def test_a_full_disk_under_the_curves_is_an_error_of_the_round(folder, monkeypatch):
    """Not of a thread of the library, which would say it by a traceback, or of nobody."""
    write = EventsWriter.write_event

    def full(writer, event):
        if event.step == 1:
            raise OSError(28, "No space left on device")
        return write(writer, event)

    monkeypatch.setattr(EventsWriter, "write_event", full)
    folder.on_round_committed(record(0))
    with pytest.raises(OSError, match="No space left") as caught:
        folder.on_round_committed(record(1))
    assert remedy(caught.value) == f"free space for {folder.path / 'tensorboard'}"


def test_the_adapter_is_replaced_by_each_update(folder, tmp_path):
    for seed in (1, 2):
        update = random_adapter({"model.query": (8, 8, 2), "model.value": (6, 10, 3)}, seed)
        folder.publisher(str(tmp_path / "base")).publish(update, described(), {})
        saved = read_peft_folder(folder.path / "adapter").adapter
        assert all(np.allclose(dense(saved[name]), dense(factors)) for name, factors in update.items())
    config = json.loads((folder.path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "base")


def test_a_new_head_is_saved_whole(folder):
    model = described(shapes={"classifier": (3, 8), "model.query": (8, 8)})
    model = replace(model, head=(HeadModule("classifier", True, True),))
    update = random_adapter({"classifier": (3, 8, 2), "model.query": (8, 8, 2)})
    folder.publisher("base").publish(update, model, {})
    saved = read_peft_folder(folder.path / "adapter")
    assert np.allclose(saved.saved["classifier.weight"], dense(update["classifier"]), atol=1e-6)
    assert list(saved.adapter) == ["model.query"]
