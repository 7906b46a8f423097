"""The documents point only at files and headings that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "simulations/bench/README.md")]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a text's headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(text: str, folder: Path) -> list[str]:
    """Return the links to files or headings that do not exist, in a text that lies in this folder."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        file = folder / name
        if link.startswith("https://"):
            continue
        if not file.exists() or (anchor and anchor not in anchors(file.read_text(encoding="utf-8") if name else text)):
            broken.append(link)
    return broken


def missing_files(text: str) -> list[str]:
    """Return the paths that a text names in backticks, in small letters, and that the checkout does not have."""
    lines = text.splitlines()
    named = re.findall(r"`((?:common|client|server|simulations|tests|docs)/[a-z0-9_./]*)`", "\n".join(lines))
    return [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_document_points_at_what_exists(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert (broken_links(text, file.parent), missing_files(text)) == ([], [])


def test_what_does_not_exist_is_found() -> None:
    text = "# A b, `c`\n[1](docs/ray.md) [2](docs/no.md) [3](docs/ray.md#no) [4](#a-b-c) [5](#no) [6](https://no.no/x)"
    assert broken_links(text, ROOT) == ["docs/no.md", "docs/ray.md#no", "#no"]
    assert missing_files("`client/app.py` `client/no.py` `runs/no`, `server/rounds/`") == ["client/no.py"]


def names_of_all_tests() -> set[str]:
    """Return the names of all tests."""
    files = (ROOT / "tests").rglob("test_*.py")
    return {
        name
        for file in files
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_each_guarantee_of_the_threat_model_has_a_test_that_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")))
    assert named
    assert named - names_of_all_tests() == set()


def stated_events() -> set[str]:
    """Return the words of all events that a log call in the tree states."""
    files = [file for name in ("common", "client", "server") for file in (ROOT / name).rglob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in (*files, ROOT / "fedlora.py"))
    words = re.findall(r"(?:\bevent\(|\.note\(\s*|last_line\([^\n]*?, )\"([a-z-]+)\"", text)
    return {*words, "log"}


def table_of_events() -> list[list[str]]:
    """Return the rows of the table in docs/operations.md, each of its cells."""
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    table = text.partition("## The log")[2].partition("## Metrics")[0]
    return [line.split("|") for line in table.splitlines() if line.startswith("| `")]


def test_the_table_of_events_has_the_words_of_the_log() -> None:
    assert {word for row in table_of_events() for word in re.findall(r"`([a-z-]+)`", row[1])} == stated_events()


def test_the_table_of_metrics_has_their_names() -> None:
    source = (ROOT / "server/monitoring/metrics_endpoint.py").read_text(encoding="utf-8")
    names = set(re.findall(r"_(?:gauge|counter|labelled)\(\"(\w+)\"", source)) | {
        "last_round_seconds",
        "last_round_aggregation_error",
    }
    table = (ROOT / "docs/operations.md").read_text(encoding="utf-8").partition("## Metrics")[2].partition("## What")[0]
    told = re.findall(r"`fedlora_(\w+?)(?:_total)?(?:\{\w+\})?`", table)
    assert {*told} == names


def calls_of_event() -> list[ast.Call]:
    """Return the calls of `event` in the tree that name the event."""
    files = [file for name in ("common", "client", "server") for file in (ROOT / name).rglob("*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    calls = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "event"]
    return [call for call in calls if isinstance(call.args[0], ast.Constant)]


def test_the_table_of_events_has_their_fields() -> None:
    """Of the events whose calls spell all fields."""
    told: dict[str, set[str]] = {}
    for _, word, _, fields, *_ in table_of_events():
        names = {*re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", fields))}
        told |= dict.fromkeys(re.findall(r"`([a-z-]+)`", word), names)
    found: dict[str, set[str]] = {}
    for call in calls_of_event():
        found.setdefault(call.args[0].value, set()).update(str(each.arg) for each in call.keywords)
    spelt = {word: names for word, names in found.items() if "None" not in names}
    assert len(spelt) > 15
    assert {word: told[word] for word in spelt} == spelt
