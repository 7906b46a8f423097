import json
import re

import pytest

from common.errors import JournalError
from simulations.report.page import Supplement, write_report
from tests.helpers.simulations.metrics import client, record, rounds, spectrum, write_run
from tests.helpers.simulations.page import Page, read_page

MODULES = [f"bert.encoder.layer.{n}.attention.self.{part}" for n in range(6) for part in ("query", "value")]
EVIL = "<script>alert('&')</script>"

pytestmark = [
    pytest.mark.filterwarnings("error"),  # a glyph without a font, a limit that is no number
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of other tests, when their garbage is collected here
]


def report(tmp_path, records, task="classification", modules=(), **more):
    run = write_run(tmp_path / "a-run", records, task)
    return read_page(write_report(run, Supplement(spectrum(modules), {"Base model": "tiny"}, **more)))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write a full page: twelve rounds, eight clients, thirteen modules."""
    records = rounds(12, clients=8)
    return report(tmp_path_factory.mktemp("full"), records, modules=(*MODULES, "classifier"), chance=0.25)


def test_the_page_lies_in_the_run_folder_and_names_the_run(tmp_path):
    run = write_run(tmp_path / "a-run", rounds(0))
    assert write_report(run, Supplement({}, {})) == run / "report.html"
    assert "a-run" in read_page(run / "report.html").text


def test_the_page_fetches_nothing(page):
    assert page.references, "the heat map is an image"
    assert page.outside == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", page.html)


def test_the_check_of_references_sees_one():
    assert Page('<img src="https://example.org/a.png"><a href="#b">b</a>').outside == ["https://example.org/a.png"]


def test_elements_nest_and_ids_are_unique_over_all_figures(page):
    assert page.tags.count("svg") == 10
    assert page.misnested == []
    assert len(page.ids) == len(set(page.ids)) > 100


def test_the_check_of_nesting_sees_a_fault():
    assert Page("<p><b>text</p></b>").misnested


def test_every_round_client_and_module_is_there(page):
    assert page.tags.count("tr") == (12 + 1) + 1 + 8 + 1 + (1 + 2)  # rounds, clients, parts of the traffic
    assert all(f"client-{number:02d} · r " in page.text for number in range(8))
    assert all(f"{layer}.{part}" in page.text for layer in range(6) for part in ("query", "value"))


def test_a_classification_shows_accuracy_and_chance(page):
    assert "share of test rows correct" in page.text
    assert "chance, 25.0%" in page.text
    assert "Perplexity" not in page.text
    assert "Rejected and absent" not in page.text
    assert "Samples" not in page.text


def test_a_language_model_shows_perplexity_and_samples(tmp_path):
    samples = [{"prompt": "name: The Eagle", "before": "The the", "after": "The Eagle serves food."}]
    page = report(tmp_path, rounds(1, test_accuracy=None), task="causal-lm", samples=samples)
    assert "exp(test loss) per token" in page.text
    assert "share of test rows correct" not in page.text
    assert all(key.capitalize() in page.text and text in page.text for key, text in samples[0].items())


def test_whatever_comes_from_outside_is_escaped(tmp_path):
    records = [record(r, [client(0, r), client(1, r, status="refused", reason=EVIL + "reason")]) for r in range(2)]
    run = write_run(tmp_path, records)
    (run / "config.toml").write_text(f'note = "{EVIL}config"\n')
    samples = [{EVIL + "heading": EVIL + "sample"}]
    beside = Supplement(spectrum([EVIL + "module"]), {EVIL + "label": EVIL + "fact"}, samples)
    page = read_page(write_report(run, beside))
    shown = ("reason", "config", "heading", "sample", "module", "label", "fact")
    assert [place for place in shown if EVIL + place not in page.text] == []
    assert "script" not in page.tags


def test_equal_input_gives_equal_bytes_and_other_input_does_not(tmp_path):
    pages = []
    for side, residual in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        run = write_run(tmp_path / side / "run", rounds(1, residual=residual))
        pages.append(write_report(run, Supplement(spectrum(MODULES[:1]), {})).read_bytes())
    assert pages[0] == pages[1] != pages[2]


def test_refusals_show_with_reason_and_rounds(tmp_path):
    bad = [record(r, [client(0, r), client(1, r, status="refused", reason="other base")]) for r in range(1, 4)]
    page = report(tmp_path, [record(0, [client(0, 0)]), *bad])
    assert re.search(r"client-01\s*rejected\s*other base\s*1–3", page.text)


def test_a_hundred_clients_are_all_named(tmp_path):
    page = report(tmp_path, rounds(1, clients=100))
    assert all(f"client-{number:02d} · r " in page.text for number in range(100))


@pytest.mark.parametrize("records", [rounds(0), rounds(1), [record(0, []), record(1, [])]], ids=["0", "1", "nobody"])
def test_short_runs(tmp_path, records):
    page = report(tmp_path, records)
    assert page.misnested == []
    assert "module by module" not in page.text


def test_a_run_that_measured_nothing(tmp_path):
    silent = client(0, 1, loss_before=None, loss_after=None)
    page = report(
        tmp_path, [record(r, [silent], test_loss=None, test_accuracy=None, aggregation_error=None) for r in range(2)]
    )
    assert "loss (nats)" not in page.text.replace("loss (nats); the line is red", "")
    assert "Aggregation error of each round" not in page.text


def test_aggregation_errors_of_zero_stand_on_the_logarithmic_axis(tmp_path):
    assert "Aggregation error of each round" in report(tmp_path, rounds(2, aggregation_error=0.0)).text


def test_the_agreement_of_the_clients_is_drawn_where_it_was_measured(tmp_path):
    page = report(tmp_path, rounds(2))
    assert "1 / K: the clients cancel" in page.text
    assert 'prefer [server] algorithm = "fedsgd"' in page.text
    assert "1 / K: the clients cancel" not in report(tmp_path, rounds(2, agreement=None)).text


def test_a_run_that_cannot_be_read_leaves_no_page(tmp_path):
    run = write_run(tmp_path, rounds(1))
    (run / "metrics.jsonl").write_text(json.dumps(rounds(1)[0]) + "\nnonsense\n")
    with pytest.raises(JournalError, match=r"metrics\.jsonl:2"):
        write_report(run, Supplement({}, {}))
    assert not (run / "report.html").exists()
