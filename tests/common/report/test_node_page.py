"""A node's page: what the run did for it and what left its machine, from plain values, escaped."""

import re
import stat
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.report.node_page import Compared, Learned, NodeReport, Share, node_page, write_node_page
from common.report.records import MEASURES
from tests.helpers.common.hostile_texts import EVIL
from tests.helpers.simulations.page import Page, read_page

REPORT = NodeReport(
    node="hospital-a",
    run="first",
    project="cardio",
    base="MiniLM",
    rounds=[Learned(0, 2.7, 0), Learned(1, None, 160), Learned(2, 1.1, 160)],
    loss=Compared(2.7, 1.1, 1.6),
    score=Compared(0.1, 0.7, 0.5),
    shares=[Share(1, 0.25), Share(2, 0.75, clip=0.5)],
    bytes_up=1_200_000,
    bytes_down=34_000_000,
    sent=[("update", "factors of each adapted module")],
    adapter="a" * 64,
    receipts=2,
    warnings=["The server left out round 3."],
    loss_unit="nats a row",
    alone="Trained alone: 48 steps <here>.",
)

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of other tests, when their garbage is collected here
]


def cells(html):
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    ]


def test_it_compares_the_base_the_update_and_training_alone():
    page = Page(node_page(REPORT))
    assert ["", "Loss (nats a row)", "Accuracy"] in cells(page.html)
    assert ["Base alone", "2.700", "10.0%"] in cells(page.html)
    assert ["With the last global update", "1.100", "70.0%"] in cells(page.html)
    assert ["Trained alone", "1.600", "50.0%"] in cells(page.html)
    assert "Trained alone: 48 steps &lt;here&gt;." in page.html
    assert "Nothing was trained alone" not in page.text
    assert "Nothing was trained alone: with --local" in Page(node_page(replace(REPORT, alone=""))).text
    assert "2.700 → 1.100" in page.text
    assert page.html.count('class="card good"') == 2
    assert 'class="card bad"' in node_page(replace(REPORT, loss=Compared(1.1, 2.7)))


def test_it_tells_rounds_shares_bytes_and_what_left():
    page = Page(node_page(REPORT))
    assert ["1", "–", "160", "25.0%", "–"] in cells(page.html)
    assert ["2", "1.100", "160", "75.0%", "0.5"] in cells(page.html)
    assert ["update", "factors of each adapted module"] in cells(page.html)
    for text in ("1.2 MB sent, 34 MB received", "a" * 64, "The server left out round 3.", "of 2 known"):
        assert text in page.text
    assert page.tags.count("svg") == 2
    assert (page.misnested, page.outside) == ([], [])


def test_what_was_not_measured_is_left_out():
    page = Page(node_page(NodeReport("hospital-a", "first", "cardio", "MiniLM")))
    assert "No held-out rows were measured: none of this node's rows" in page.text
    assert "Trained alone" not in page.text
    assert not {"Accuracy", "Warnings", "SHA-256", "Share of a round"} & {*re.findall(r"[A-Z][\w -]+\w", page.text)}
    assert "svg" not in page.tags
    assert page.misnested == []


def test_a_file_is_for_its_owner_alone_and_equal_reports_give_equal_bytes(tmp_path):
    path = write_node_page(tmp_path, REPORT)
    assert (path, stat.S_IMODE(path.stat().st_mode)) == (tmp_path / "report.html", 0o600)
    before = path.read_bytes()
    assert write_node_page(tmp_path, REPORT).read_bytes() == before
    assert write_node_page(tmp_path, replace(REPORT, receipts=3)).read_bytes() != before
    assert read_page(path).tags.count("h1") == 1


texts = st.text(max_size=30) | st.sampled_from(EVIL)
numbers = st.none() | st.floats() | st.sampled_from([1e308, 5e-324, -1e300])


@hypothesis_settings(
    max_examples=20, phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)
@given(st.lists(texts, min_size=8, max_size=8), st.lists(numbers, min_size=5, max_size=5))
def test_any_text_and_number_gives_a_page_without_more_tags(words, values):
    node, run, project, base, adapter, name, meaning, warning = words
    hostile = replace(
        REPORT,
        **{"node": node, "run": run, "project": project, "base": base, "adapter": adapter or "a"},
        rounds=[Learned(0, values[0], 1), Learned(1, values[1], 10**30)],
        loss=Compared(values[2] or 0.0, values[3] or 0.0, values[4] or 0.0),
        sent=[(name, meaning)],
        warnings=[warning],
    )
    page = Page(node_page(hostile))
    page.html.encode()
    assert page.misnested == []
    assert {*page.tags} <= {*Page(node_page(REPORT)).tags}
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00\x1b]", page.html)


def test_found_D7_rows_that_were_left_out_are_on_the_page():
    assert "Unusable rows left out" not in node_page(REPORT)
    assert "Unusable rows left out" in node_page(replace(REPORT, skipped=1234))
    assert "1,234" in node_page(replace(REPORT, skipped=1234))


def test_found_D12_a_page_of_numbers_names_their_score_and_loss():
    report = replace(REPORT, measure=MEASURES["r2"], loss_unit="mean squared error")
    text = Page(node_page(report)).text
    assert "R²" in text and "Loss (mean squared error)" in text
    assert "Accuracy" not in text and "nats" not in text
    assert "Accuracy" in Page(node_page(REPORT)).text  # control
