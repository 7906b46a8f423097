"""Found by use: numbers that are not finite are said with the module in which they first are so."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import client.app
from client.training.evaluate import evaluate
from client.training.not_finite import NotFiniteError
from common.adapters.adapter import Adapter, zeros
from common.errors import ModelError, RunError
from server.rounds.quorum import TooFewUpdatesError
from simulations.grid import naming_fault
from tests.helpers.client.bases import copied
from tests.helpers.client.server import reason_of
from tests.helpers.client.training import PLAIN, Steep, bench
from tests.helpers.end_to_end.command import TINY, call, settings
from tests.helpers.simulations.runs import BRIEF

SPOILT = "model.layers.1.mlp.up_proj"
SAID = rf"first in {SPOILT}, a Linear, whose weight is not finite in the checkpoint; copy the model again"


def spoilt(where, value=float("nan"), name=SPOILT):
    with torch.no_grad():
        where.base.model.get_submodule(name).weight[3, 5] = value
    return where


def times(adapter, factor):
    return Adapter({name: replace(f, b=f.b * np.float32(factor)) for name, f in adapter.items()})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_found_B3_a_base_with_such_a_weight_is_named_with_the_tensor(value):
    where = spoilt(bench("llama", "causal-lm"), value)
    for work in (where.train, lambda start: evaluate(where.base, where.lora, start.start, where.rows)):
        with pytest.raises(ModelError, match=SAID) as caught:
            work(where.start())
        assert not isinstance(caught.value, NotFiniteError)


def test_found_B3_a_base_that_overflows_in_float16_is_told_to_be_held_in_float32():
    where = bench("llama", "causal-lm", dtype="float16")
    with torch.no_grad():
        where.base.model.get_submodule(SPOILT).weight.mul_(3e5)
        where.base.model.get_submodule("model.layers.1.mlp.gate_proj").weight.mul_(3e4)
    with pytest.raises(ModelError, match=r'in float16, gives no finite loss: first in model\.layers\.1.* dtype = "flo'):
        evaluate(where.base, where.lora, zeros(where.lora.shapes), where.rows)


def test_found_B3_an_update_that_overflows_is_told_from_a_broken_base():
    where = bench("llama", "causal-lm")
    start = where.start(frozen=2)
    huge = replace(start, start=times(start.start, 1e38))
    with pytest.raises(NotFiniteError, match=r"first in model\.layers\.0\.self_attn\.\w+, a Linear; a new run"):
        where.train(huge)
    with pytest.raises(NotFiniteError, match=r"first in model\.layers\.0\.self_attn\.\w+, a Linear; a new run"):
        evaluate(where.base, where.lora, huge.start, where.rows)
    assert np.isfinite(where.train(start).loss)  # control


def test_found_B3_gradients_that_are_not_finite_are_named_by_where_they_come_from():
    where = bench()
    rows = replace(where.rows, objective=Steep(where.rows.objective.data))
    with pytest.raises(NotFiniteError, match=r"the gradient by the output of \w+ is the first that is not"):
        where.train(where.start(), rows=rows)


def test_found_B3_a_training_that_diverges_later_says_so():
    where = bench("llama", "causal-lm")
    rates = replace(PLAIN, learning_rates=(1e30,) * 3, clip=0.0)
    with pytest.raises(NotFiniteError, match="it diverged between its steps; a new run with a lower"):
        where.train(where.start(), rates)


def spoilt_folder(folder):
    copied("llama", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[f"{SPOILT}.weight"][0, 0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("test_rows", [20, 0])
def test_found_B3_a_simulation_says_the_module(test_rows, tmp_path):
    words = (*BRIEF, "data.task=causal-lm", "clients.partition=iid", f"data.test_rows={test_rows}")
    base = spoilt_folder(tmp_path / "base")
    ended = call("simulate", TINY, "--out", tmp_path / "runs", *settings(*words, f"base.path={base}"))
    assert f"first in {SPOILT}, a Linear, whose weight is not finite in the checkpoint" in ended.err
    assert "JSON" not in ended.err
    assert "Traceback" not in ended.err
    assert ended.status == (2 if test_rows else 1)
    assert SPOILT in ended.err.splitlines()[-1]


def test_found_B3_control_an_error_that_no_node_has_a_part_in_stays_as_it_is():
    with pytest.raises(RunError, match=r"^the disk is full$"), naming_fault():
        client.app.log.error("declined a train message, nan: it diverged")
        raise RunError("the disk is full")
    with pytest.raises(RunError, match=r"^too few$"), naming_fault():
        raise TooFewUpdatesError("too few")


def test_found_B3_a_node_logs_the_module_and_sends_a_word(tmp_path, server, caplog):
    order = server.assignment
    server.assignment = replace(order, start=times(order.start, 1e38))
    assert reason_of(server.train()) == "nan"
    assert "the update gives no finite numbers: first in " in caplog.text
