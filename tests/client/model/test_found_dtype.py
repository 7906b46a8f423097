"""Found by use: models whose code mixes types are told to be held in float32, in our words."""

import pytest

from client.model.base_model import load_base
from client.model.forward import forward
from client.objectives.examples import eval_batches
from common.errors import ModelError
from simulations.architectures.trial import write_base
from tests.helpers.client.training import random_rows
from tests.helpers.end_to_end.command import TINY, call, refusal, settings
from tests.helpers.simulations.runs import BRIEF


def computed(folder, dtype):
    base = load_base(str(folder), "classification", ("a", "b"), dtype, "cpu")
    return forward(base, next(eval_batches(random_rows("classification", [5, 7]), 2)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["xlnet", "fnet", "deberta"])
def test_found_B12_a_model_that_cannot_compute_in_16_bits_is_told_to_be_held_in_float32(kind, dtype, tmp_path):
    folder = write_base(kind, "classification", tmp_path / "base")
    with pytest.raises(ModelError, match=rf'{kind} model of Transformers cannot compute in {dtype} on cpu .*"float32"'):
        computed(folder, dtype)
    assert computed(folder, "float32").isfinite().all()  # control


def test_found_B12_a_command_says_so_with_status_2(tmp_path):
    folder = write_base("xlnet", "classification", tmp_path / "base")
    words = settings(*BRIEF, f"base.path={folder}", "base.dtype=bfloat16", "lora.targets=all-linear")
    message = refusal(call("simulate", TINY, "--out", tmp_path / "runs", *words))
    assert "xlnet model of Transformers cannot compute in bfloat16" in message
    assert 'set dtype = "float32" (in a recipe: [base] dtype)' in message


def test_found_B12_control_another_error_stays_as_it_is(tmp_path):
    folder = write_base("bert", "classification", tmp_path / "base")
    base = load_base(str(folder), "classification", ("a", "b"), "bfloat16", "cpu")
    batch = next(eval_batches(random_rows("classification", [200]), 1))  # longer than its positions
    with pytest.raises((RuntimeError, IndexError)) as caught:
        forward(base, batch)
    assert not isinstance(caught.value, ModelError)
