"""The prompts of a run's test rows, each with all that the rows answer to it."""

from dataclasses import dataclass
from pathlib import Path

from client.data.files.source import open_rows
from client.data.layouts import learned_as
from client.data.row_checks import read_text
from client.data.rows import Row
from client.finished.run import load_test_rows
from client.objectives.examples import Examples, held_places
from client.results.folder import NodeFolder
from common.errors import ConfigError
from common.settings.node import Node


@dataclass(frozen=True)
class Asked:
    """A prompt, and each completion that a test row has for it."""

    prompt: str
    references: tuple[str, ...]


def read_asked(run: Path) -> tuple[Asked, ...]:
    """Return each prompt of the run's test rows once, in the rows' order.

    Raises:
        DataError: the run has no test rows.
        ConfigError: they are no prompts with completions.
    """
    node, examples = load_test_rows(run)
    rows = _usable(node, examples)
    if NodeFolder.is_at(run):
        rows = [rows[place] for place in sorted(held_places(len(rows), node.name)[1])]
    data, layout = node.data, learned_as(node.data, rows)
    if layout is None or layout.kind != "pair":
        what = f"of the layout {layout.kind}" if layout else "no prompts with completions"
        raise ConfigError(
            f"{data.path}: its rows are {what}; metrics of texts need a text in the columns prompt = {data.prompt!r} "
            f"and completion = {data.completion!r}"
        )
    answers: dict[str, list[str]] = {}
    for row in rows:
        prompt, completion = (read_text(row.fields, column) for column in layout.columns)
        answers.setdefault(prompt, []).append(completion.strip())
    return tuple(Asked(prompt, tuple(references)) for prompt, references in answers.items())


def _usable(node: Node, examples: Examples) -> list[Row]:
    """Return the rows of the node's file that became examples, or were held back from them."""
    skipped = {(place.file, place.line) for place in examples.found.skipped}
    chunks = open_rows(Path(node.data.path), node.data.encoding).chunks()
    return [row for chunk in chunks for row in chunk if (chunk.file, row.line) not in skipped]
