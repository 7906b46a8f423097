"""The page of a deployment's run, made by a process of its own: `python -m common.report.run_page RUN`."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from common.atomic_files import write_file
from common.errors import FedloraError
from common.plain_files import SETTINGS, open_plain, read_plain
from common.report import curves
from common.report.cards import Card, cards
from common.report.figures import draw
from common.report.history import History, add_up
from common.report.records import measure_of, read_records
from common.report.templates import figures_as_markup, template
from common.settings.reader import read_toml

_NICE = 19
"""Lowest priority: the rounds go first."""
_TAIL = 2**16
"""Bytes from the end of the log that are read first; the last line may be longer."""


def write_run_page(run: Path) -> Path:
    """Write `RUN/report.html` from `config.toml`, `metrics.jsonl` and the last line of the log; return its path.

    Equal files give equal bytes. One round is in memory at a time.

    Raises:
        JournalError: `metrics.jsonl` cannot be used.
        ConfigError: `config.toml` cannot be read.
        OSError: the page was not written; the one before remains.
    """
    path, history = run / "report.html", add_up(read_records(run))
    page = template(Path(__file__).parent, "run.html.j2").render(
        facts=_facts(run),
        cards=[*cards(history), *_rejected(history)],
        figures=figures_as_markup(_draw(history)),
        history=history,
        measure=measure_of(history.rounds),
        settings=read_plain(run / "config.toml", SETTINGS).decode(),
    )
    write_file(path, page.encode(), durable=False)  # it can be made again, and a sync would delay the journal's
    return path


def _rejected(history: History) -> Sequence[Card]:
    """Return a card of the nodes that do not count in the last round, if there are any."""
    names = [node.name for node in history.nodes if node.status in ("refused", "absent")]
    return [Card("Left out", str(len(names)), "rejected or absent, as last told", good=False)] if names else []


def _facts(run: Path) -> Mapping[str, str]:
    config, line = read_toml(run / "config.toml", links=False), _last_line(run / "journal" / "log.jsonl")
    found = {
        "Project": config.get("project"),
        "Run": config.get("run"),
        "Base model": _base_name(run / "adapter" / "adapter_config.json"),
        "Fingerprint of base, tokenizer, targets, labels": line.get("base"),
        "SHA-256 of the global update": line.get("adapter_hash"),
    }
    return {label: str(text) for label, text in found.items() if text}


def _base_name(file: Path) -> str | None:
    """Return the base model's name as the published adapter has it; None where there is none yet."""
    try:
        return str(json.loads(read_plain(file, SETTINGS))["base_model_name_or_path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _last_line(log: Path) -> Mapping[str, Any]:
    """Return the last whole line of a log; nothing where there is none.

    It is not checked: the process that writes has checked it, and `fedlora verify` does.
    """
    length = _TAIL
    with open_plain(log) as file:
        size = file.seek(0, os.SEEK_END)
        while True:
            file.seek(max(0, size - length))
            lines = file.read().split(b"\n")[:-1]  # behind the last newline, a line is being written
            if len(lines) > 1 or length >= size:
                return dict(json.loads(lines[-1])) if lines else {}
            length *= 4


def _draw(history: History) -> dict[str, str]:
    rounds = history.rounds
    return draw(
        {
            "loss": lambda: curves.loss(rounds, history.losses),
            "score": lambda: curves.score(rounds, None),
            "aggregation_error": lambda: curves.exactness(rounds),
            "agreement": lambda: curves.agreement(rounds),
            "residual": lambda: curves.residual(rounds),
            "rank": lambda: curves.rank(rounds),
            "traffic": lambda: curves.traffic(rounds),
            "seconds": lambda: curves.seconds(rounds),
        }
    )


def main(run: Path) -> None:
    """Write the page of a run at the lowest priority, and end early if the process that started this one ends."""
    os.nice(_NICE)
    Thread(target=_end_with_starter, daemon=True).start()
    try:
        write_run_page(run)
    except (FedloraError, OSError) as error:
        sys.exit(str(error))


def _end_with_starter() -> None:
    """Wait for the end of standard input, which the starter holds open as long as it lives."""
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
