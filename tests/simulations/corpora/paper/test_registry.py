import pytest

from common.errors import ConfigError, DataError
from common.settings.reference import reference
from simulations.corpora import load_corpus
from simulations.corpora.paper.registry import PUBLISHED
from simulations.corpora.splits import has_own_test, own_test
from simulations.prepare import prepare
from simulations.recipe import read_recipe
from tests.helpers.end_to_end.command import TINY

ROWS = [{"prompt": f"train {n}", "split": "train"} for n in range(5)] + [
    {"prompt": f"test {n % 10}", "split": "test"} for n in range(30)
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_the_data_it_says_what_to_put_where(monkeypatch, tmp_path, name):
    published = PUBLISHED[name]
    remedy = f"set FEDLORA_DATA to a folder that has {published.train} and {published.test}, unpacked from https://"
    monkeypatch.delenv("FEDLORA_DATA", raising=False)
    with pytest.raises(DataError) as unset:
        load_corpus(name)
    assert str(unset.value).startswith(f"the data of corpus {name} is not available; {remedy}")
    monkeypatch.setenv("FEDLORA_DATA", str(tmp_path))
    with pytest.raises(DataError) as absent:
        load_corpus(name)
    absent_file = tmp_path / published.train
    assert str(absent.value).startswith(
        f"corpus {name}: FEDLORA_DATA is set, but {absent_file} does not exist; {remedy}"
    )


@pytest.mark.parametrize("seed", range(4))
def test_test_rows_of_a_prompt_are_taken_together(seed):
    train, test = own_test(ROWS, 10, seed, "prompt")
    assert train == [0, 1, 2, 3, 4]
    assert len(test) == 9
    assert test == sorted(test)
    prompts = [ROWS[place]["prompt"] for place in test]
    assert all(prompts.count(prompt) == 3 for prompt in prompts)


def test_which_are_taken_depends_on_the_seed_alone():
    assert own_test(ROWS, 10, 1, "prompt") == own_test(ROWS, 10, 1, "prompt")
    assert len({tuple(own_test(ROWS, 10, seed, "prompt")[1]) for seed in range(5)}) > 1


def test_rows_without_a_prompt_are_each_on_their_own():
    assert len(own_test([{"split": row["split"]} for row in ROWS], 10, 0, "prompt")[1]) == 10
    assert len(own_test(ROWS, 1000, 0, "prompt")[1]) == 30
    assert own_test(ROWS, 0, 0, "prompt")[1] == []


def test_no_room_for_a_prompt_is_refused():
    with pytest.raises(ConfigError, match=r"test_rows = 2 has no room for all completions of a prompt; set it to 3"):
        own_test(ROWS, 2, 0, "prompt")


def test_a_run_is_tested_on_the_sets_own_test_rows(own):
    for split, places in (("train", ("The Mill", "Zizzi")), ("dev", ("Fitzbillies",))):
        file = "trainset.csv" if split == "train" else "testset_w_refs.csv"
        rows = [f'"name[{name}], food[{n}]",{name} {n} {kind}.' for name in places for n in range(4) for kind in "ab"]
        own(f"e2e_nlg/{file}", "\n".join(["mr,ref", *rows]) + "\n")
    words = (
        "data.corpus=e2e",
        "data.task=causal-lm",
        "base.path=tiny:gpt2",
        "clients.partition=column",
        "data.test_rows=5",
    )
    recipe = read_recipe(
        TINY, [*words, "clients.column=name", "clients.count=2", "clients.ranks=[2]", "clients.min_rows=2"]
    )
    prepared = prepare(recipe)
    assert [(shard.name, len(shard.rows)) for shard in prepared.shards] == [("The-Mill", 8), ("Zizzi", 8)]
    assert len(prepared.test_rows) == 4
    assert all("Fitzbillies" in row["prompt"] for row in prepared.test_rows)
    assert len({row["prompt"] for row in prepared.test_rows}) == 2
    assert not has_own_test(prepared.test_rows[0])  # the column stays behind


def test_the_reference_of_settings_names_every_corpus():
    assert [name for name in PUBLISHED if f"`{name}`" not in reference()] == []
