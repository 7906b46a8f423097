"""The pages in a real browser: they open without a complaint, update by themselves, and work by keyboard and narrow."""

import json
import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest

from common.report.node_page import Compared, Learned, NodeReport, Share, write_node_page
from common.report.run_page import write_run_page
from server.monitoring.live_page import POLICY
from simulations.report.page import Supplement, write_report
from tests.common.report.test_run_page import write_deployment
from tests.helpers.browser import browsing, overflow, page_of, tab_stops
from tests.helpers.common.hostile_texts import EVIL
from tests.helpers.end_to_end.command import call, end, refusal, start
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.simulations.metrics import client, record, rounds, spectrum, write_run
from tests.server.monitoring.test_status_view import NODE, STATUS

LONG = "a-hospital-with-a-very-long-name-of-sixty-three-characters-in-all"


@pytest.fixture(scope="module")
def browser():
    with browsing() as found:
        yield found


@contextmanager
def served(project):
    """Yield the process of `fedlora status --page`, and the address that it printed."""
    process = start("status", project.file, "--page")
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def project(tmp_path):
    """Return a project with a run that was written by hand, which no server runs."""
    made = NumpyProject(tmp_path)
    write_deployment(made.run, rounds(3, clients=30))
    write_run_page(made.run)
    (made.run / "status.json").write_text(json.dumps(STATUS))
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a deployment's, a simulation's and a node's page, each with long names and much in its tables."""
    folder = tmp_path_factory.mktemp("pages")
    refused = client(9, 3, name=LONG, status="refused", reason="settings")
    records = [*rounds(2, clients=30), record(3, [client(0, 3, clip=0.5), refused])]
    simulated = write_run(folder / "simulated", records)
    beside = Supplement(
        spectrum([f"layer.{n}.query" for n in range(12)]), {"Base model": "x" * 200}, [{"prompt": LONG}]
    )
    node = replace(
        NodeReport(LONG, "first", "cardio", "MiniLM", [Learned(n, 2.0 - n / 9, 160) for n in range(9)]),
        loss=Compared(2.0, 1.0, 1.5),
        shares=[Share(n, 0.3, 0.5) for n in range(1, 9)],
        warnings=[LONG],
        sent=[("update", LONG)],
    )
    (folder / "node").mkdir()
    return {
        "deployment": write_run_page(write_deployment(folder / "deployed", records)),
        "simulation": write_report(simulated, beside),
        "node": write_node_page(folder / "node", node),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 1400])
@pytest.mark.parametrize("kind", ["deployment", "simulation", "node"])
def test_a_report_fits_its_window_and_its_scheme(browser, files, kind, width, scheme):
    with page_of(browser, width, scheme) as page:
        page.goto(files[kind].as_uri())
        page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
        assert overflow(page) <= 0
        lightness = "(e) => getComputedStyle(e).backgroundColor.match(/[0-9]+/g).reduce((a, b) => +a + +b, 0)"
        assert (page.eval_on_selector("body", lightness) > 380) == (scheme == "light")
        assert page.complaints == []


@pytest.mark.parametrize("kind", ["deployment", "simulation", "node"])
def test_a_report_works_by_keyboard(browser, files, kind):
    with page_of(browser, 400) as page:
        page.goto(files[kind].as_uri())
        wide = "[...document.querySelectorAll('.scroll, pre')].filter((e) => e.tabIndex < 0).length"
        assert page.evaluate(wide) == 0
        stops = tab_stops(page)
        assert stops[0].startswith("A|Skip to the content")
        assert [stop for stop in stops if not stop.endswith("|solid")] == []
        assert any(stop.startswith("SUMMARY|Table of rounds") for stop in stops)
        assert any(stop.startswith("DIV|") and "caption" in stop for stop in stops)
        page.focus("#table-of-rounds > summary")
        before = page.evaluate("document.querySelector('#table-of-rounds').open")
        page.keyboard.press("Enter")
        assert page.evaluate("document.querySelector('#table-of-rounds').open") is not before


@pytest.mark.parametrize("kind", ["deployment", "simulation", "node"])
def test_a_report_names_its_parts(browser, files, kind):
    """One h1, one main; each table has a caption and headings, each figure and region a name."""
    with page_of(browser) as page:
        page.goto(files[kind].as_uri())
        count = "(q) => document.querySelectorAll(q).length"
        assert [page.evaluate(count, each) for each in ("h1", "main", "html[lang]")] == [1, 1, 1]
        assert page.evaluate(count, "table") == page.evaluate(count, "table:has(caption):has(th[scope=col])") > 1
        names = page.eval_on_selector_all(
            "[aria-labelledby]", "(all) => all.map((e) => e.getAttribute('aria-labelledby'))"
        )
        assert [name for name in names if page.locator(f"[id='{name}']").count() != 1] == []
        assert page.evaluate(count, "svg") == page.evaluate(count, "[role=img][aria-labelledby] svg") > 1


def test_a_real_run_is_followed_from_before_its_start_to_its_end(browser, tmp_path):
    project = NumpyProject(tmp_path, rounds=6)
    with served(project) as (process, address), page_of(browser) as page:
        page.goto(address)
        page.get_by_text("The run has not begun").wait_for()
        assert project.whole_run(HONEST).status == 0
        page.get_by_text("round 6/6: finished").wait_for()
        page.get_by_role("heading", name="Aggregation").wait_for()
        assert page.locator("#live-nodes tbody tr td:first-child").all_text_contents() == ["ada", "bob", "cyd"]
        assert "Agreement of the clients" in page.inner_html("#live-report")
        assert page.complaints == []
        process.send_signal(signal.SIGINT)
        ended = end(process)
        assert ended.status == 0
        page.get_by_text("this page is no longer served").wait_for()
    report = project.run / "report.html"
    assert report.stat().st_mode & 0o777 == 0o600
    report.unlink()
    with project.serving() as server:  # once more, though all rounds are done
        assert end(server).status == 0
    assert "round" in report.read_text()
    assert "Traceback" not in ended.err


def test_what_a_reader_did_stays_as_the_report_changes(browser, project):
    with served(project) as (_, address), page_of(browser, 400) as page:
        page.goto(address)
        page.locator("#table-of-rounds").wait_for()
        page.focus("#table-of-rounds > summary")
        page.keyboard.press("Enter")
        page.evaluate("document.querySelector('[aria-labelledby=rounds-caption]').scrollLeft = 120")
        page.evaluate("window.scrollTo(0, document.querySelector('#table-of-rounds').offsetTop - 100)")
        place = page.evaluate("window.scrollY")
        with (project.run / "metrics.jsonl").open("a") as metrics:
            metrics.write(json.dumps(record(4, [client(c, 4) for c in range(30)])) + "\n")
        write_run_page(project.run)
        page.locator("#table-of-rounds tbody tr").nth(4).wait_for()
        assert page.evaluate("document.querySelector('#table-of-rounds').open")
        assert not page.evaluate("document.querySelector('#table-of-nodes').open")  # control: 30 nodes, closed
        assert page.evaluate("document.activeElement.closest('details').id") == "table-of-rounds"
        assert page.evaluate("document.querySelector('[aria-labelledby=rounds-caption]').scrollLeft") == 120
        assert abs(page.evaluate("window.scrollY") - place) < 60
        assert page.complaints == []


def test_a_server_that_is_gone_is_told_and_one_that_is_back_too(browser, project):
    with served(project) as (_, address), page_of(browser) as page:
        page.goto(address)
        page.get_by_text("No news since 2026-11-24 11:59:59 UTC").wait_for()
        (project.run / "status.json").write_text(json.dumps(STATUS | {"phase": "finished", "round": 10}))
        page.get_by_text("round 10/10: finished").wait_for()
        assert page.inner_text("#live-lost") == ""


@pytest.mark.parametrize("width", [320, 400, 1400])
def test_the_live_page_fits_and_works_by_keyboard(browser, project, width):
    nodes = [NODE | {"name": f"{LONG}{n}", "last_seen": None} for n in range(30)]
    refusals = [{"name": LONG, "reason": "x" * 200, "count": 2, "round": 3}]
    (project.run / "status.json").write_text(json.dumps(STATUS | {"nodes": nodes, "refusals": refusals}))
    with served(project) as (_, address), page_of(browser, width, "dark") as page:
        page.goto(address)
        page.locator("#table-of-rounds").wait_for()
        assert overflow(page) <= 0
        stops = tab_stops(page)
        assert [stop for stop in stops if not stop.endswith("|solid")] == []
        assert any(stop.startswith("DIV|live-caption") for stop in stops)
        assert any(stop.startswith("SUMMARY|Table of nodes") for stop in stops)
        assert page.locator("[role=status][aria-live=polite] #live-progress").count() == 1


def test_nothing_that_a_node_says_comes_alive(browser, project):
    nodes = [NODE | {"name": text[:256], "reason": text, "state": text, "last_seen": None} for text in EVIL[:-1]]
    refusals = [{"name": text, "reason": text, "count": 1, "round": None} for text in EVIL[:-1]]
    (project.run / "status.json").write_text(json.dumps(STATUS | {"nodes": nodes, "refusals": refusals}))
    clients = [client(0, 1, name=text, status="refused", reason=text, same_as=text) for text in EVIL]
    (project.run / "metrics.jsonl").write_text("".join(json.dumps(record(n, clients)) + "\n" for n in range(2)))
    write_run_page(project.run)
    with served(project) as (_, address), page_of(browser) as page:
        for place in (address, (project.run / "report.html").as_uri()):
            page.goto(place)
            page.locator("#table-of-rounds").wait_for()
            page.mouse.move(300, 300)
            assert page.get_by_text(EVIL[0]).count() > 0
            assert page.locator("body script").count() == (place == address)
            assert page.locator("[onerror], [onload], [onmouseover], img[src], a[href^=javascript]").count() == 0
        assert page.complaints == []


def test_a_script_in_the_report_would_not_run(browser, project):
    """The page's policy is a second wall; here the first, escaping, is down."""
    harm = (
        '<main><p id="in">in</p><script>console.log("harm")</script><img src="data:," onerror="console.log(1)"></main>'
    )
    (project.run / "report.html").write_text(f"<!DOCTYPE html><html><body>{harm}</body></html>")
    assert "script-src 'sha256-" in POLICY
    with served(project) as (_, address), page_of(browser) as page:
        page.goto(address)
        page.locator("#in").wait_for()
        page.goto(address + "report.html")
        page.locator("#in").wait_for()
        assert page.complaints
        assert all("Content Security Policy" in each for each in page.complaints)
    with page_of(browser) as page:  # control: without a policy it runs
        page.goto((project.run / "report.html").as_uri())
        assert {"harm", "1"} <= {*page.complaints}


def test_options_that_do_not_go_together_and_a_taken_port_are_refused(project):
    assert call("status", project.file, "--page", "--watch").status == 2
    assert call("status", project.file, "--port", "80").status == 2
    with served(project) as (_, address):
        port = address.split(":")[2].partition("/")[0]
        assert f"--port {port}: cannot listen" in refusal(call("status", project.file, "--page", "--port", port))


def test_the_checks_see_what_they_look_for(browser):
    with page_of(browser, 400) as page:
        page.set_content("<div style='width: 500px'><a href='#' style='outline: none'>a</a></div>")
        assert overflow(page) > 0
        assert tab_stops(page) == ["A|a|none"]
        page.evaluate("console.log('said'); alert('shown')")
        assert page.complaints == ["said", "shown"]
