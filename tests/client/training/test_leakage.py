"""What replies give away: of a gradient of 1, 16 and 256 rows, and of an increment, which rows were behind it.

Printed as a table for docs/threat-model.md with `-s`. Bounds are loose: the last digits depend on the machine.
"""

from functools import partial

import pytest

from tests.helpers.client.leakage import Attack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Return what the attack finds in each kind of reply, and print it."""
    attack = Attack(tmp_path_factory.mktemp("node"))
    many, strangers = partial(attack.increment, steps=16), list(range(16))
    replies = {
        "gradient of 1 row": (attack.gradient, 1, 10),
        "gradient of 16 rows": (attack.gradient, 16, 10),
        "gradient of 256 rows": (attack.gradient, 256, 5),
        "increment, 16 steps on 16 rows": (many, 16, 5),
        "increment, 16 steps on 256 rows": (many, 256, 5),
        "control: gradient of 16 other rows": (lambda members: attack.gradient(strangers), 16, 10),
    }
    results = {}
    print("\n| reply | AUC, cosine | AUC, unmixed | highest cosine is a member | highest unmixed is a member |")
    for name, (reply, rows, trials) in replies.items():
        one = results[name] = attack.find(reply, rows, trials)
        numbers = [*one.auc.values(), *one.top.values()]
        print(f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |")
    return results


def test_a_gradient_of_one_row_gives_it_away(found):
    one = found["gradient of 1 row"]
    assert min(*one.auc.values(), *one.top.values()) > 0.99


def test_more_rows_hide_each_from_a_comparison(found):
    few, many = (found[f"gradient of {rows} rows"].auc["cosine"] for rows in (16, 256))
    assert 0.9 > few > many + 0.05
    assert 0.45 < many < 0.65


def test_no_number_of_rows_hides_them_in_an_exact_sum(found):
    """As long as the attacker's candidates are fewer than the numbers of the reply."""
    assert all(found[f"gradient of {rows} rows"].auc["unmixed"] > 0.95 for rows in (16, 256))


def test_an_increment_of_many_steps_and_rows_gives_away_less(found):
    few, many = (found[f"increment, 16 steps on {rows} rows"].auc for rows in (16, 256))
    assert max(many.values()) < 0.7
    assert many["unmixed"] + 0.1 < few["unmixed"] < found["gradient of 16 rows"].auc["unmixed"] - 0.05


def test_control_the_attack_finds_nothing_where_there_is_nothing(found):
    assert all(0.3 < each < 0.7 for each in found["control: gradient of 16 other rows"].auc.values())
