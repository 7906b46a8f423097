"""What a node answers beside training, and what its owner's limits refuse."""

import pytest

from client.node import load_node
from client.policy import rows_violation
from client.questions.answer import MOST_REQUESTS, MOST_ROUNDS, Questions, rows_behind
from common.heads.requests import ASKS, CLASS_SUMS
from common.planning.requests import MODULE_ENERGIES
from common.protocol.assignment import Training
from common.protocol.messages import RoundId
from common.protocol.payload import Payload
from common.settings.node import Policy
from tests.helpers.client.nodes import write_node

ENERGIES, SUMS = (Payload({ASKS: each}) for each in (MODULE_ENERGIES, CLASS_SUMS))


def round_id(number=0, run="run"):
    return RoundId(run, number, "parent", "base")


def test_energies_need_no_consent_to_class_sums():
    assert Questions().violation(Policy(), round_id(), ENERGIES) is None
    assert "class_sums = false" in Questions().violation(Policy(), round_id(), SUMS)
    assert Questions().violation(Policy(class_sums=True), round_id(), SUMS) is None


@pytest.mark.parametrize("asked", [ENERGIES, SUMS])
def test_a_run_asks_so_many_times_in_so_many_rounds(asked):
    questions, policy = Questions(), Policy(class_sums=True)
    for number in range(MOST_ROUNDS):
        assert [questions.violation(policy, round_id(number), asked) for _ in range(MOST_REQUESTS)] == [
            None
        ] * MOST_REQUESTS
        assert "this is beyond" in questions.violation(policy, round_id(number), asked)
    assert "this is beyond" in questions.violation(policy, round_id(MOST_ROUNDS), asked)
    assert questions.violation(policy, round_id(run="another"), asked) is None


@pytest.mark.parametrize(("steps", "batch", "rows"), [(1, 1, 1), (2, 3, 6), (8, 16, 27)])
def test_the_rows_behind_energies_are_those_that_are_read(tmp_path, steps, batch, rows):
    """So that `min_examples` is no promise that a request for a single row could break."""
    node = load_node(write_node(tmp_path, rows=30))
    asked = Payload({ASKS: MODULE_ENERGIES, **Training((0.1,) * steps, batch).to_values()})
    assert len(node.train) == 27
    assert rows_behind(node, asked) == rows
    assert rows_behind(node, SUMS) == 27
    assert "min_examples = 28" in rows_violation(Policy(min_examples=28), lambda: rows_behind(node, asked))
