"""Each limit on its own: what is asked at the limit is allowed, and one beyond it is not."""

from dataclasses import replace
from math import inf, nan, nextafter
from typing import get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy import (
    MAY_LEAVE,
    TrainingHistory,
    TrainingRequest,
    draw_violation,
    gradient_violation,
    needed_bytes,
    outgoing_values,
    rows_violation,
    training_violation,
)
from common.adapters.link_codecs import Held
from common.heads.requests import HeadLossesReply, SumsReply
from common.huggingface.model_description import ModelDescription
from common.huggingface.new_head import HeadModule
from common.planning.requests import EnergiesReply
from common.protocol.announcement import Announcement
from common.protocol.assignment import Assignment, Term, Training
from common.protocol.messages import RoundId
from common.protocol.replies import LossReply, TrainReply
from common.settings.node import Policy
from tests.helpers.common.models import random_adapter

SHAPES = {"layers.0.q_proj": (4, 6), "layers.0.v_proj": (2, 6)}
FROZEN, START = random_adapter(SHAPES, (3,), 1), random_adapter(SHAPES, (2,), 2)
ASK = TrainingRequest(
    RoundId("run", 4, "parent", "base", phase=2),
    Assignment(FROZEN, START, terms=(Term("proximal"),)),
    Training((1e-3, 1e-2, 5e-3), 8),
    cohort=3,
    phases=2,
)
PAST = TrainingHistory(trainings=4, seconds=30.0)
BYTES = 4 * (3 * (4 + 6) + 2 * (2 + 6) + 5 * (2 * (4 + 6) + 2 * (2 + 6)))  # rank 3 of a (2, 6) module is 2
LIMITS = [
    ("max_rank", 2, 1),
    ("max_steps", 3, 2),
    ("max_rounds", 5, 4),
    ("max_phases", 2, 1),
    ("terms", ("proximal",), ()),
    ("min_lr", 1e-3, nextafter(1e-3, 1)),
    ("max_lr", 1e-2, nextafter(1e-2, 0)),
    ("min_cohort", 3, 4),
    ("min_seconds", 30.0, nextafter(30.0, inf)),
    ("max_bytes", BYTES, BYTES - 1),
    ("min_examples", 24, 25),
    ("base", "base", "other"),
    ("targets", ("q_proj", "v_proj"), ("q_proj",)),
    ("targets", ("layers.0.q_proj", "0.v_proj"), ("layers.0.q_proj", "layers.1.v_proj")),
    ("targets", ("q_proj", "v_proj"), ("q_proj", "proj")),
]


def test_a_policy_without_limits_allows_anything():
    assert training_violation(Policy(), ASK, PAST) is None


@pytest.mark.parametrize(("key", "at", "beyond"), LIMITS)
def test_a_limit_holds_from_one_beyond_it(key, at, beyond):
    assert training_violation(Policy(**{key: at}), ASK, PAST) is None
    text = training_violation(Policy(**{key: beyond}), ASK, PAST)
    limit = list(beyond) if isinstance(beyond, tuple) else beyond
    assert text.startswith(f"[policy] {key} = {limit!r}, requested is ")


@pytest.mark.parametrize(
    ("key", "beyond", "asked"),
    [("max_rank", 1, "2"), ("max_rounds", 4, "5"), ("min_lr", 2e-3, "0.001"), ("base", "x", "'base'")],
)
def test_the_text_says_what_was_asked(key, beyond, asked):
    assert training_violation(Policy(**{key: beyond}), ASK, PAST).endswith(f"requested is {asked}")


@pytest.mark.parametrize(("draw", "within"), [(0, True), (3200, True), (3201, False), (10**12, False)])
def test_no_request_reads_the_rows_of_a_node_hundreds_of_times(draw, within):
    text = draw_violation(Training((1e-3,) * 2, 8, draw=draw), 100)
    assert (text is None) == within
    assert within or text == f"requested is to read {2 * draw} rows, at most 6400 are read"


def test_every_key_of_a_policy_is_tried():
    assert {key for key, *_ in LIMITS} | {"gradients", "class_sums", "min_class_rows"} == set(vars(Policy()))


@pytest.mark.parametrize("key", ["min_lr", "max_lr"])
def test_a_rate_that_is_no_number_is_beyond_every_limit(key):
    for rates in [(nan, 1e-3), (1e-3, nan)]:
        ask = replace(ASK, training=replace(ASK.training, learning_rates=rates))
        assert training_violation(Policy(**{key: 1e-3}), ask, PAST).endswith("requested is nan")


def test_rounds_are_those_of_the_run_and_those_of_the_process():
    policy = Policy(max_rounds=4)
    assert training_violation(policy, ASK, TrainingHistory(3, 9.0)) is None
    assert training_violation(policy, ASK, TrainingHistory(4, 9.0)) is not None
    assert (
        training_violation(policy, replace(ASK, round_id=replace(ASK.round_id, round=5)), TrainingHistory()) is not None
    )


def test_phases_of_one_round_are_trainings_that_need_not_wait():
    first, second = replace(ASK.round_id, phase=1), ASK.round_id
    hurried = TrainingHistory(1, 0.0, first)
    assert training_violation(Policy(min_seconds=9.0), replace(ASK, round_id=second), hurried) is None
    for other in (first, replace(second, phase=3), replace(second, round=5), replace(second, attempt=2)):
        assert "min_seconds" in training_violation(Policy(min_seconds=9.0), replace(ASK, round_id=other), hurried)


def test_the_first_phase_is_declined_where_the_round_has_more_than_the_owner_allows():
    first = replace(ASK, round_id=replace(ASK.round_id, phase=1))
    assert training_violation(Policy(max_phases=1), first, PAST) == "[policy] max_phases = 1, requested is 2"
    assert training_violation(Policy(max_phases=1), replace(first, phases=1), PAST) is None


def test_max_rounds_counts_each_phase_that_the_owner_allows():
    assert training_violation(Policy(max_rounds=4, max_phases=2), ASK, TrainingHistory(7, 9.0)) is None
    text = training_violation(Policy(max_rounds=4, max_phases=2), ASK, TrainingHistory(8, 9.0))
    assert text == "[policy] max_rounds = 4 times max_phases = 2, requested is 9"
    assert "max_rounds = 4, requested is 5" in training_violation(Policy(max_rounds=4), ASK, TrainingHistory(4, 9.0))


@pytest.mark.parametrize("phase", [0, -7, True, 1.5, "1"])
def test_a_phase_that_is_none_is_declined(phase):
    ask = replace(ASK, round_id=replace(ASK.round_id, phase=phase))
    assert "phases are counted from 1" in training_violation(Policy(), ask, PAST)


@pytest.mark.parametrize("kind", ["gradient", "compressed-gradient"])
def test_no_gradient_leaves_unless_the_owner_says_so(kind):
    asked = replace(ASK, assignment=replace(ASK.assignment, returns=kind, terms=()))
    for policy, ask in ((Policy(gradients=True), asked), (Policy(), ASK)):  # the second is for an update
        assert training_violation(policy, ask, PAST) is None
    text = training_violation(Policy(), asked, PAST)
    assert text == gradient_violation(Policy(), kind)
    assert text.startswith("[policy] gradients = false, requested is a gradient, ")


def test_terms_that_name_a_gradient_allow_the_one_that_there_was_before():
    named = Policy(terms=("gradient",))
    assert gradient_violation(named, "gradient") is None
    assert "gradients = false" in gradient_violation(named, "compressed-gradient")
    assert "gradients = false" in gradient_violation(named, True)  # a kind of another release
    assert gradient_violation(replace(named, gradients=True), "compressed-gradient") is None


@pytest.mark.parametrize("gradients", [False, True])
def test_terms_without_a_gradient_allow_none(gradients):
    policy = Policy(terms=(), gradients=gradients)
    assert gradient_violation(policy, "gradient") == "[policy] terms = [], requested is 'gradient'"


def test_rows_are_counted_only_where_the_owner_has_a_limit():
    assert rows_violation(Policy(), lambda: pytest.fail("counted")) is None
    assert rows_violation(Policy(min_examples=7), lambda: 7) is None
    text = "[policy] min_examples = 7, requested is a training on 6 different rows"
    assert rows_violation(Policy(min_examples=7), lambda: 6) == text


def test_no_term_is_requested_twice_and_its_memory_counts():
    twice = replace(ASK.assignment, terms=(Term("proximal"),) * 2)
    assert "twice" in training_violation(Policy(), replace(ASK, assignment=twice), PAST)
    start = sum(array.size for array in START.arrays().values())
    none = replace(ASK.assignment, terms=())
    assert needed_bytes(ASK.assignment) == needed_bytes(none) + 4 * start


@pytest.mark.parametrize("unknown", [{"returns": "rows"}, {"trains": "c"}])
def test_an_unknown_request_is_declined(unknown):
    ask = replace(ASK, assignment=replace(ASK.assignment, **unknown))
    assert "which is unknown" in training_violation(Policy(), ask, PAST)


def test_the_first_training_need_not_wait():
    assert training_violation(Policy(min_seconds=1e9), ASK, TrainingHistory()) is None


def test_a_factor_that_is_not_trained_needs_no_gradient_and_no_state():
    both, only_b = needed_bytes(ASK.assignment), needed_bytes(replace(ASK.assignment, trains="b"))
    assert both - only_b == 4 * 3 * sum(factors.a.size for factors in START.values())
    assert needed_bytes(replace(ASK.assignment, frozen=type(FROZEN)())) < both


WHOLE = {
    str: "a",
    int: 1,
    bool: True,
    float: 0.5,
    list[str]: ["a", "b"],
    list[int]: [1, 2],
    list[bool]: [True],
    list[float]: [0.5],
}
"""A value of each type that may leave."""


def test_what_is_named_and_of_its_type_may_leave():
    values = {name: WHOLE[kind] for name, kind in MAY_LEAVE.items()}
    assert outgoing_values(values) == values
    assert outgoing_values({}) == {}


@pytest.mark.parametrize("name", MAY_LEAVE)
def test_nothing_of_another_type_may_leave(name):
    wrong = [value for kind, value in WHOLE.items() if kind != MAY_LEAVE[name]] + [None, b"a", {"a": 1}]
    mixed = [WHOLE[MAY_LEAVE[name]] + [b"a"]] if isinstance(WHOLE[MAY_LEAVE[name]], list) else []
    for value in wrong + mixed:
        with pytest.raises(ValueError, match=f"^{name} must not leave"):
            outgoing_values({"loss": 0.5, name: value})


@given(st.text().filter(lambda name: name not in MAY_LEAVE))
def test_nothing_of_another_name_may_leave(name):
    with pytest.raises(ValueError, match="must not leave"):
        outgoing_values({"loss": 0.5, name: 0.5})


def test_what_may_leave_is_what_the_replies_have():
    """The list stays written out, so that a new field of a reply does not leave unseen."""
    shapes, head = dict.fromkeys("qhe", (2, 3)), (HeadModule("h", True, False),)
    model = ModelDescription("f", "causal-lm", shapes, head, ("e",), {"labels": "[]"}, "regression")
    kept = Held("1", (4,))
    announced = Announcement("n", 1, 2, model, 3, kept, saves=True, unfinished=("a",), skipped=5)
    kinds = {name: type(value) for name, value in announced.to_values().items()}
    for reply in (TrainReply, LossReply, SumsReply, HeadLossesReply, EnergiesReply):
        kinds |= get_type_hints(reply)
    plain = lambda found: {name: get_origin(kind) or kind for name, kind in found.items()}  # noqa: E731
    assert plain(MAY_LEAVE) == plain(kinds)
