"""What replies give away: of a gradient, an increment and class sums of 1 to 256 rows, which rows were behind them.

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
    sums, grams = (Attack(tmp_path_factory.mktemp(kind), kind) for kind in ("means", "lda"))
    gram = partial(grams.class_sums, gram=True)
    others = {
        f"{what} of {rows} row{'s' * (rows > 1)}": (which, reply, rows, trials)
        for rows, trials in ((1, 10), (16, 10), (256, 5))
        for what, which, reply in (("class sums", sums, sums.class_sums), ("class sums and Gram matrix", grams, gram))
    }
    others["control: Gram matrix of 16 other rows"] = grams, lambda members: gram(strangers), 16, 10
    results = {}
    print("\n| reply | AUC, cosine | AUC, unmixed | highest cosine is a member | highest unmixed is a member |")
    everything = {name: (attack, *each) for name, each in replies.items()} | others
    for name, (attacker, reply, rows, trials) in everything.items():
        one = results[name] = attacker.find(reply, rows, trials)
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
    for name in ("control: gradient of 16 other rows", "control: Gram matrix of 16 other rows"):
        assert all(0.3 < each < 0.7 for each in found[name].auc.values())


def test_the_sums_of_a_class_of_one_row_are_that_row(found):
    for what in ("class sums", "class sums and Gram matrix"):
        one = found[f"{what} of 1 row"]
        assert min(*one.auc.values(), *one.top.values()) > 0.99


def test_a_gram_matrix_gives_away_which_rows_are_in_it(found):
    few, many = (found[f"class sums and Gram matrix of {rows} rows"].auc["unmixed"] for rows in (16, 256))
    assert min(few, many) > 0.9


def test_class_sums_of_many_rows_give_away_less_and_not_little(found):
    few, many = (found[f"class sums of {rows}"].auc["unmixed"] for rows in ("1 row", "256 rows"))
    assert 0.6 < many < 0.95 < few
