"""What a node answers beside training, and what its owner's limits refuse."""

import pytest

from client.questions.answer import MOST_REQUESTS, MOST_ROUNDS, Questions
from common.heads.requests import ASKS, CLASS_SUMS
from common.planning.requests import MODULE_ENERGIES
from common.protocol.messages import RoundId
from common.protocol.payload import Payload
from common.settings.node import Policy

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
