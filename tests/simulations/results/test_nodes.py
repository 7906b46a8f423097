"""The rows of a trial: those to choose rates on are no others than those to test on where they share prompts."""

from simulations.recipe import read_recipe
from simulations.results.nodes import _held_out
from tests.helpers.end_to_end.command import TINY

RECIPE = read_recipe(TINY, ["data.task=causal-lm", "base.path=tiny:gpt2"])


def test_all_completions_of_a_prompt_are_in_one_part():
    rows = [{"prompt": f"p{n % 20}", "completion": f"c{n}"} for n in range(120)]
    test, valid = _held_out(rows, 24, RECIPE, None)
    assert len(test) + len(valid) == 120
    assert len(valid) == 24
    assert not {row["prompt"] for row in test} & {row["prompt"] for row in valid}


def test_prompts_with_more_completions_than_there_is_room_for_still_give_validation_rows():
    rows = [{"prompt": f"p{n % 2}", "completion": f"c{n}"} for n in range(12)]
    test, valid = _held_out(rows, 3, RECIPE, None)
    assert (len(test), len(valid)) == (6, 6)


def test_rows_of_their_own_are_drawn_one_by_one():
    rows = [{"text": f"t{n}"} for n in range(50)]
    test, valid = _held_out(rows, 10, RECIPE, None)
    assert (len(test), len(valid)) == (40, 10)
