"""Every study in its quick form, by the command, on the tiny recipe; and what a recipe or a base cannot answer."""

import json
from xml.etree import ElementTree

import pytest

from simulations.studies.registry import STUDIES
from tests.helpers.end_to_end.command import ROOT, TINY, call, refusal

pytestmark = pytest.mark.slow

FEDERATED = ["rank", "placement", "subspace", "amplification"]


@pytest.mark.parametrize("name", STUDIES)
def test_a_quick_study_writes_a_page_a_figure_and_its_numbers(name, tmp_path):
    ended = call("study", name, TINY, "--quick", "--out", tmp_path)
    assert ended.status == 0, ended.err
    folder = tmp_path / f"study-{name}-tiny-quick"
    page = (folder / f"{name}.md").read_text()
    numbers = json.loads((folder / f"{name}.json").read_text())
    assert f"page: {folder / name}.md" in ended.out
    assert numbers["text"] in page
    assert STUDIES[name].claim in page
    assert numbers["held"] is None  # so few steps decide nothing
    assert "These trials do not decide it." in page
    assert len(numbers["table"]) >= 2
    assert f"fedlora study {name}" in numbers["command"]
    assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", FEDERATED)
def test_adapters_may_be_trained_by_the_recipes_clients(name, tmp_path):
    ended = call("study", name, TINY, "--quick", "--federated", "--seeds", 1, "--out", tmp_path)
    assert ended.status == 0, ended.err
    assert (tmp_path / f"study-{name}-tiny-federated-quick" / f"{name}.md").exists()


def test_a_second_call_trains_nothing(tmp_path):
    first = call("study", "placement", TINY, "--quick", "--out", tmp_path)
    again = call("study", "placement", TINY, "--quick", "--out", tmp_path)
    assert again.out == first.out
    assert "seed 1: accuracy" in first.err
    assert "seed 1: accuracy" not in again.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("ranks", TINY), "NAME = 'ranks' is unknown; did you mean 'rank'"),
        (("skew", ROOT / "simulations" / "recipes" / "docs-lm.toml"), "study skew deals rows out by their labels"),
        (("rank", ROOT / "simulations" / "recipes" / "preference.toml"), "which its rows do not have"),
        (("rank", TINY, "--set", "data.test_rows=0"), "test_rows = 0, and a study measures on test rows"),
        (("rank", TINY, "--set", "base.path=tiny:gpt2"), "has no projection for query of its own"),
        (("baselines", TINY, "--set", "base.path=tiny:llama"), "classifies at the last token"),
        (("rank", "none.toml"), "none.toml"),
    ],
)
def test_what_cannot_be_answered_is_named(words, reason, tmp_path):
    assert reason in refusal(call("study", *words, "--quick", "--out", tmp_path))
