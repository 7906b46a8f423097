"""Pieces of text, stop strings and the choice of tokens (client/serving/writer.py, sampling.py)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from client.serving.jobs import Sampling
from client.serving.sampling import Sampler, choose_each, nucleus
from client.serving.writer import Writer, held_back
from simulations.tiny_base import tiny_base

IDS = st.lists(st.integers(0, 511), max_size=40)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(tiny_base("llama"), trust_remote_code=False)


def pieces(writer, ids):
    return [*map(writer.push, ids), writer.finish()]


@given(IDS)
def test_the_pieces_are_the_text_of_all_tokens(tokenizer, ids):
    assert "".join(pieces(Writer(tokenizer), ids)) == tokenizer.decode(ids, skip_special_tokens=True)


@given(st.text(max_size=20))
def test_no_piece_has_half_a_character(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(pieces(Writer(tokenizer), ids)) == tokenizer.decode(ids, skip_special_tokens=True)
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece for piece in pieces(Writer(tokenizer), ids)[:-1])


@given(IDS, st.lists(st.text("abe ", min_size=1, max_size=3), max_size=3))
def test_a_text_ends_before_the_first_stop_string(tokenizer, ids, stops):
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    found = [whole.index(stop) for stop in stops if stop in whole]
    writer = Writer(tokenizer, stops)
    assert "".join(pieces(writer, ids)) == whole[: min(found, default=len(whole))]
    assert writer.stopped == bool(found)


@pytest.mark.parametrize(
    ("text", "stops", "length"), [("abc", ("cd",), 1), ("abc", ("bcd", "cx"), 2), ("abc", ("x",), 0), ("abc", (), 0)]
)
def test_what_may_begin_a_stop_string_is_held_back(text, stops, length):
    assert held_back(text, stops) == length


LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=20).map(torch.tensor)


@given(LOGITS, st.floats(0.05, 2), st.floats(0.01, 1))
def test_the_nucleus_is_the_fewest_likeliest_tokens(logits, temperature, top_p):
    kept, whole = nucleus(logits, temperature, top_p), torch.softmax(logits.double() / temperature, -1)
    chosen = kept > 0
    assert kept.sum().item() == pytest.approx(1, abs=1e-5)
    assert whole[chosen].min() >= whole[~chosen].max() - 1e-6 if (~chosen).any() else True
    assert whole[chosen].sum() - whole[chosen].min() < top_p + 1e-5


@given(LOGITS)
def test_at_temperature_zero_or_nearly_the_likeliest_token_is_chosen(logits):
    for temperature in (0.0, 5e-324, 1e-9):
        assert Sampler(Sampling(temperature, 1.0, 0)).choose(logits) == int(logits.argmax())


def test_drawn_tokens_have_the_frequencies_of_their_probabilities():
    logits, sampler = torch.tensor([0.0, 1.0, 2.0, -40.0]), Sampler(Sampling(1.0, 1.0, 5))
    counts = torch.bincount(torch.tensor([sampler.choose(logits) for _ in range(4000)]), minlength=4) / 4000
    assert (counts - torch.softmax(logits, -1)).abs().max() < 0.03


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_has_no_token(bad):
    samplers = [Sampler(Sampling(1.0, 1.0, 0)) for _ in range(2)]
    assert choose_each(torch.tensor([[0.0, bad], [0.0, 50.0]]), samplers) == [None, 1]
