from dataclasses import replace

import pytest

from simulations.bench.measure import GateError
from simulations.bench.training.held import FEWER, Held, _against, compare
from tests.helpers.client.quantised import wide_base
from tests.helpers.simulations.tiny_cases import tiny_case


def test_fewer_bits_take_fewer_bytes_and_learn():
    case = replace(tiny_case("llama", steps=3, batches=1), folder=wide_base("llama"))
    bfloat16, int8, nf4 = compare(case)
    assert [each.figure.rpartition(" ")[2] for each in (bfloat16, int8, nf4)] == [*FEWER]
    assert bfloat16.theirs == int8.theirs == nf4.theirs
    assert nf4.ours < int8.ours < bfloat16.ours < bfloat16.theirs
    assert bfloat16.ratio == pytest.approx(2, rel=1e-2)


def test_a_base_that_learns_less_is_no_result():
    case, whole = tiny_case("llama"), Held(400, 3.0, 2.0)
    assert _against(case, whole, "nf4", Held(100, 3.1, 2.2)).ratio == 4  # control
    with pytest.raises(GateError, match=r"loss in float32 3.000 to 2.000, in nf4 3.100 to 2.500"):
        _against(case, whole, "nf4", Held(100, 3.1, 2.5))
