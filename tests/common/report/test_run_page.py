"""A deployment's page: whole, escaped, small for long runs, and made by a process that ends with its starter."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.report.run_page import write_run_page
from tests.helpers.common.hostile_texts import EVIL
from tests.helpers.simulations.metrics import client, record, rounds
from tests.helpers.simulations.page import read_page

ROOT = Path(__file__).parents[3]
LINE = {"base": "b" * 64, "adapter_hash": "a" * 64}
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
COMMAND = [sys.executable, "-P", "-m", "common.report.run_page"]

pytestmark = [
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of other tests, when their garbage is collected here
]


def write_deployment(folder, records, log=(LINE,)):
    (folder / "journal").mkdir(parents=True)
    (folder / "config.toml").write_text('project = "cardio"\nrun = "first"\n')
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "MiniLM"}')
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    (folder / "journal" / "log.jsonl").write_text("".join(json.dumps(each) + "\n" for each in log))
    return folder


def page_of(folder, records, **more):
    return read_page(write_run_page(write_deployment(folder / "run", records, **more)))


def rows(page):
    """Return the cells of each row of the page's tables."""
    bodies = re.findall(r"<tr>(.*?)</tr>", page.html, re.DOTALL)
    return [
        [re.sub(r"<[^>]+>", "", cell).strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", body)] for body in bodies
    ]


def test_it_has_nodes_settings_hashes_and_what_failed(tmp_path):
    refused = client(1, 2, status="refused", reason="nan", share=0.0)
    page = page_of(tmp_path, [*rounds(1), record(2, [client(0, 2, share=0.6), refused])])
    assert ["client-01", "4", "rejected", "nan", "101", "320"] in [row[:6] for row in rows(page)]
    assert ["client-00", "2", "ok", "–"] in [row[:4] for row in rows(page)]
    assert "60.0%" in page.text
    assert ["client-01", "rejected", "nan", "2"] in rows(page)
    assert all(each in page.text for each in ("cardio", "MiniLM", "a" * 64, "b" * 64, 'project = "cardio"'))
    for title in ("Loss", "Aggregation error of each round", "Agreement of the clients", "Left out of the broadcast"):
        assert title in page.text
    assert "Traffic, all clients together" in page.text
    assert "Time of each round" in page.text


def test_without_an_adapter_there_is_no_name_of_the_base(tmp_path):
    run = write_deployment(tmp_path / "run", rounds(1))
    assert "Base model" in read_page(write_run_page(run)).text  # control
    (run / "adapter" / "adapter_config.json").write_text("[]")
    assert "Base model" not in read_page(write_run_page(run)).text
    (run / "adapter" / "adapter_config.json").unlink()
    assert "Base model" not in read_page(write_run_page(run)).text


def test_it_fetches_nothing_nests_and_has_no_script(tmp_path):
    page = page_of(tmp_path, rounds(3))
    assert (page.outside, page.misnested) == ([], [])
    assert len(page.ids) == len(set(page.ids)) > 20
    assert not {"script", "link", "iframe"} & {*page.tags}
    assert not re.search(r"@import|url\((?!#)", page.html)


def test_colours_are_those_of_the_page_light_or_dark(tmp_path):
    page = page_of(tmp_path, rounds(3))
    used = {*re.findall(r"var\((--[a-z-]+)\)", page.html)}
    assert {"--ink", "--line", "--plot-blue", "--plot-orange"} <= used
    assert all(page.html.count(f"{name}: ") == 2 for name in used)  # light and dark
    assert not re.search(r'style="[^"]*#[0-9a-f]{6}', page.html)


def test_equal_files_give_equal_bytes_and_others_do_not(tmp_path):
    pages = [page_of(tmp_path / str(n), rounds(1, seconds=s)).html for n, s in enumerate((1, 1, 2))]
    assert pages[0] == pages[1] != pages[2]


@pytest.mark.parametrize("records", [rounds(0), [record(0, []), record(1, [])]], ids=["one", "nobody"])
def test_short_runs(tmp_path, records):
    assert page_of(tmp_path, records).misnested == []


def test_what_nodes_say_is_escaped(tmp_path):
    clients = [client(0, 1, name=text, status="refused", reason=text, same_as=text, clip=0.5) for text in EVIL]
    page = page_of(tmp_path, [record(0, []), record(1, clients)])
    plain = page_of(
        tmp_path / "plain",
        [record(0, []), record(1, [client(0, 1, status="refused", reason="a", same_as="b", clip=0.5)])],
    )
    assert {*page.tags} == {*plain.tags}
    assert page.misnested == []
    assert not re.search(r"[\u202a-\u202e\u2066-\u2069\x00\x1b\u2028]", page.html)
    assert "\\u202egnp.exe" in page.text
    assert all(text in page.text for text in EVIL if text.isprintable())


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([1e308, -1e308, 5e-324, 1e30])


@hypothesis_settings(
    max_examples=15,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.text(max_size=40) | st.sampled_from(EVIL), st.text(max_size=20), st.lists(numbers, min_size=4, max_size=4))
def test_any_text_and_number_of_a_node_gives_a_page_without_more_tags(tmp_path_factory, name, reason, values):
    before, after, error, agreement = values
    node = client(0, 1, name=name, reason=reason, status="refused", loss_before=before, loss_after=after)
    records = [record(0, [node]), record(1, [node], aggregation_error=error and abs(error), agreement=agreement)]
    page = page_of(tmp_path_factory.mktemp("any"), records)
    assert page.misnested == []
    assert not {"script", "img", "iframe", "b", "x"} & ({*page.tags} - {"b"})
    assert page.tags.count("tr") == 10


def test_a_long_run_has_a_small_page(tmp_path):
    """2,000 rounds of 30 nodes, and one round of 2,000 nodes, each refused in every second round."""
    many = [client(n % 100, 2000, name=f"node-{n:04d}", status="absent", reason="absent") for n in range(2000)]
    long = [record(r, [client(c, r, status="ok" if r % 2 else "absent") for c in range(30)]) for r in range(2000)]
    page = page_of(tmp_path, [*long, record(2000, many)])
    assert len(page.html) < 3e6
    numbers = [row[0] for row in rows(page) if row[0].isdigit()]
    assert numbers[-1] == "2000"
    assert len(numbers) <= 200
    assert "the first 1000 of 2" in page.text
    assert "and 988 more" in page.text


def test_the_last_whole_line_of_a_log_counts_however_long(tmp_path):
    long = LINE | {"adapter_hash": "c" * 64, "padding": "x" * 300_000}
    run = write_deployment(tmp_path / "run", rounds(1), log=(LINE, long))
    with (run / "journal" / "log.jsonl").open("a") as log:
        log.write('{"adapter_hash": "dddd')
    assert "c" * 64 in read_page(write_run_page(run)).text


def test_a_page_that_cannot_be_made_leaves_the_one_before_and_says_why(tmp_path):
    run = write_deployment(tmp_path / "run", rounds(1))
    before = write_run_page(run).read_bytes()
    (run / "metrics.jsonl").write_text("nonsense\n")
    theirs, ours = os.pipe()
    ended = subprocess.run([*COMMAND, run], env=ENVIRONMENT, stdin=theirs, capture_output=True, text=True, timeout=60)
    os.close(theirs)
    os.close(ours)
    assert ended.returncode == 1
    assert "metrics.jsonl:1 is not JSON" in ended.stderr
    assert (run / "report.html").read_bytes() == before


def test_the_process_ends_with_the_one_that_started_it(tmp_path):
    """Its standard input, which that one holds open, ends; the file that it reads then never does."""
    run = write_deployment(tmp_path / "run", rounds(1))
    with subprocess.Popen([*COMMAND, run], env=ENVIRONMENT, stdin=subprocess.PIPE) as process:
        process.stdin.close()
        assert process.wait(60) == 1
    assert not (run / "report.html").exists()


def test_it_needs_no_pytorch_and_draws_only_when_asked():
    code = "import sys; sys.modules['torch'] = None; import common.report.run_page; import common.report.node_page"
    lazy = "import sys, common.report.node_page, server.launch; assert 'matplotlib' not in sys.modules"
    for each in (code, lazy):
        ended = subprocess.run([sys.executable, "-c", each], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
