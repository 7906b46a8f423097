"""One batch with several adapters gives what each text gives by itself (client/serving/)."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from client.finished.run import load_run
from client.finished.text import continue_text
from client.model.lora import Lane, Lora, adaptable_shapes, frozen_lane
from client.serving.cached_rows import LaneModel, join, select
from client.serving.classifier import Classifier
from client.serving.decoder import Decoder
from client.serving.jobs import Classified, Ended, Failed, Job, Piece, Sampling
from client.serving.limits import Limits
from common.adapters.adapter import Adapter, Factors, zeros
from tests.helpers.client.outputs import gap
from tests.helpers.client.serving import base_hash, random_adapter


def adapters_of(base):
    """Adapters of ranks 16, 3, 1 and 0, and none."""
    return [
        random_adapter(base, "", 16, 0),
        random_adapter(base, "mlp", 3, 1),
        random_adapter(base, "0", 1, 2),
        zeros(adaptable_shapes(base.model)),
        Adapter({}),
    ]


@torch.no_grad()
def alone(base, adapter, ids):
    """Return the next token's logits in a pass of one row, without cache, padding or other adapters."""
    skeleton = base.skeleton()
    lora = Lora(skeleton.model, tuple(adapter))
    lora.lanes = [frozen_lane(adapter)]
    return skeleton.model(input_ids=torch.tensor([ids])).logits[:, -1]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_one_batch_of_several_adapters_has_the_logits_of_one_by_one(run_of, kind):
    base = load_run(run_of(kind)).base
    adapters = adapters_of(base)
    before, model, lanes = base_hash(base), LaneModel(base), [frozen_lane(each) for each in adapters]
    texts = [[5 + n, *range(20, 22 + 3 * n)] for n in range(5)]
    rows, logits = model.begin(texts, lanes)
    order = list(range(5))
    for step in range(6):
        expected = torch.cat([alone(base, adapters[n], texts[n]) for n in order])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
        bare = torch.cat([alone(base, Adapter({}), texts[n]) for n in order])
        assert (logits - bare).abs().amax(1)[[n < 3 for n in order]].min() > 1e-2  # control
        if step == 2:  # Two leave, in another order of the others.
            keep = [3, 0, 2]
            rows, order = select(rows, keep), [order[n] for n in keep]
        if step == 4:  # One joins.
            texts.append([9, 10, 11, 12, 13, 14, 15])
            lanes, adapters = [*lanes, lanes[1]], [*adapters, adapters[1]]
            rows, order = join(rows, model.begin([texts[5]], [lanes[5]])[0]), [*order, 5]
        for n in order:
            texts[n] = [*texts[n], 30 + n + step]
        rows, logits = model.extend(rows, [texts[n][-1] for n in order])
    assert base_hash(base) == before


def test_rows_go_to_the_lane_of_their_own(llama):
    """The control of grouping: with the lanes the other way round, the logits are others."""
    model, (one, other) = LaneModel(llama.base), [frozen_lane(each) for each in adapters_of(llama.base)[:2]]
    texts = [[5, 6, 7], [5, 6, 7], [5, 6, 7]]
    right, swapped = (model.begin(texts, lanes)[1] for lanes in ([one, other, one], [other, one, other]))
    assert gap(right[0], right[2]) < 1e-5
    assert gap(right[:2], swapped[[1, 0]]) < 1e-4
    assert gap(right, swapped) > 1e-2


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Piece))


def put(decoder, **settings):
    """Put a job into the batch whose events go into a list that is returned with it."""
    events = []
    job = Job(**settings, deliver=events.append)
    decoder.admit([job])
    return job, events


def greedy(llama, adapter, ids, tokens):
    """Return what the loop of Transformers writes, with this adapter attached alone."""
    return continue_text(replace(llama, adapter=adapter), adapter, ids, tokens)


def test_texts_that_join_and_leave_are_written_as_by_themselves(llama):
    decoder, adapters = Decoder(llama.base, Limits()), [*adapters_of(llama.base), llama.adapter]
    lanes, dice, written = [frozen_lane(each) for each in adapters], random.Random(0), []
    for n in range(18):
        ids = [dice.randrange(20, 400) for _ in range(dice.randrange(1, 30))]
        tokens = dice.randrange(1, 25)
        written.append((n % 6, ids, tokens, put(decoder, ids=ids, lane=lanes[n % 6], tokens=tokens)[1]))
        for _ in range(dice.randrange(4)):
            decoder.step()
    while decoder.jobs:
        decoder.step()
    for which, ids, tokens, events in written:
        assert text_of(events) == greedy(llama, adapters[which], ids, tokens)
        assert isinstance(events[-1], Ended)
    assert len({text_of(events) for *_, events in written}) > 10  # control


def test_a_seed_repeats_a_text_whatever_else_is_in_the_batch(llama):
    def draw(seed, others):
        decoder = Decoder(llama.base, Limits())
        for _ in range(others):
            put(decoder, ids=[8, 9], lane=Lane(), tokens=5, sampling=Sampling(1.0, 1.0, 77))
        _, events = put(decoder, ids=[40, 41, 42], lane=Lane(), tokens=20, sampling=Sampling(1.0, 0.9, seed))
        while decoder.jobs:
            decoder.step()
        return text_of(events)

    assert draw(3, 0) == draw(3, 4)
    assert draw(3, 0) != draw(4, 0)  # control


def test_a_text_that_nobody_waits_for_frees_its_row(llama):
    decoder = Decoder(llama.base, Limits())
    job, events = put(decoder, ids=[40], lane=Lane(), tokens=100)
    put(decoder, ids=[40], lane=Lane(), tokens=3)
    job.cancelled = True
    seen = len(events)
    decoder.step()
    assert job not in decoder.jobs
    assert len(decoder.jobs) == 1
    assert len(events) == seen


def test_an_adapter_whose_numbers_overflow_fails_its_own_text_only(llama):
    broken = Adapter({n: Factors(f.a * np.float32(1e30), f.b * np.float32(1e30)) for n, f in llama.adapter.items()})
    decoder = Decoder(llama.base, Limits())
    _, whole = put(decoder, ids=[40, 41], lane=Lane(), tokens=4)
    _, failed = put(decoder, ids=[40, 41], lane=frozen_lane(broken), tokens=4)
    while decoder.jobs:
        decoder.step()
    assert isinstance(failed[-1], Failed)
    assert text_of(whole) == greedy(llama, Adapter({}), [40, 41], 4)


def test_the_batch_is_bounded_by_rows_and_by_tokens(llama):
    decoder = Decoder(llama.base, Limits(rows=2, tokens=100))
    job = Job([5] * 10, Lane(), 20)
    assert decoder.has_room([job, job])
    assert not decoder.has_room([job, job, job])
    assert not decoder.has_room([job, Job([5] * 10, Lane(), 50)])
    assert decoder.has_room([Job([5] * 10, Lane(), 500)])  # alone: texts within the positions are never refused here


@pytest.mark.parametrize("kind", ["bert", "gpt2 classes"])
def test_texts_of_several_adapters_are_classified_as_by_themselves(run_of, kind):
    it = load_run(run_of(kind))
    before = base_hash(it.base)
    lanes = [Lane(), frozen_lane(it.adapter), frozen_lane(random_adapter(it.base, "", 4, 0))]
    ids = [[3 + n, *range(20, 21 + n % 5)] for n in range(9)]

    def run(numbers):
        found = {n: [] for n in numbers}
        Classifier(it.base, Limits()).admit([Job(ids[n], lanes[n % 3], deliver=found[n].append) for n in numbers])
        assert all(isinstance(each, Classified) for (each,) in found.values())
        return np.array([each.answers for (each,) in found.values()])

    together, single = run(range(9)), np.concatenate([run([n]) for n in range(9)])
    assert np.abs(together - single).max() < 1e-5
    assert np.allclose(together.sum(1), 1)
    assert np.abs(together[0] - together[2]).max() > 1e-2  # control
    assert base_hash(it.base) == before
