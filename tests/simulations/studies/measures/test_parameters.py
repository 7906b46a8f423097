"""The paper's counts and GPT-3's bytes, as its text states them."""

import pytest

from simulations.studies.measures import parameters


def test_the_counts_of_gpt_3_in_table_4_of_the_paper():
    """4.7 and 37.7 million for LoRA, 7.1 and 40.1 for AdapterH of r = 1 and 8, 3.2 for PrefixEmbed."""
    assert parameters.lora(192, 12_288, 1) == pytest.approx(4.7e6, rel=0.01)
    assert parameters.lora(192, 12_288, 8) == pytest.approx(37.7e6, rel=0.01)
    assert parameters.bottleneck(192, 12_288, 1) == pytest.approx(7.1e6, rel=0.01)
    assert parameters.bottleneck(192, 12_288, 8) == pytest.approx(40.1e6, rel=0.01)
    assert parameters.prefix_embedding(12_288, 256, 8) == pytest.approx(3.2e6, rel=0.02)


@pytest.mark.parametrize(("rank", "megabytes"), [(4, 35), (8, 70)])
def test_a_checkpoint_of_gpt_3_is_ten_thousand_times_smaller(rank, megabytes):
    whole, lora = parameters.gpt3(rank)
    assert whole.checkpoint == pytest.approx(350e9, rel=0.01)
    assert lora.checkpoint == pytest.approx(megabytes * 2**20, rel=0.1)
    assert whole.checkpoint / lora.checkpoint == pytest.approx(10_000 * 4 / rank, rel=0.1)


def test_memory_is_a_third_since_frozen_weights_have_no_moments():
    whole, lora = parameters.gpt3(4)
    assert whole.held / lora.held == pytest.approx(3, rel=0.001)
    assert whole.held == 3 * whole.checkpoint


def test_a_bottleneck_counts_down_up_biases_and_norms():
    d, r = 6, 2
    down, up = r * d + r, d * r + d
    assert parameters.bottleneck(3, d, r, layer_norms=4) == 3 * (down + up) + 4 * 2 * d
