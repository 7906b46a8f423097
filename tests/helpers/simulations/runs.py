"""Runs for tests: recipes to start them, and what a finished one left in its folder."""

import json
import time
from pathlib import Path

import tomli_w

from common.settings.reader import read_toml
from server.storage.journal_reader import verify_journal
from simulations.corpora import toy
from simulations.simulate import simulate
from tests.helpers.end_to_end.command import TINY

BRIEF = ("train.rounds=2", "train.steps=3", "train.lr=1e-2", "data.test_rows=20", "workers=1")
"""Settings of the tiny recipe for a run that only has to end."""


def run_tiny(out, *settings, name="run", recipe=TINY):
    """Run the tiny recipe in this process, and return the run's folder."""
    return simulate(recipe, list(settings), name, out, None)


def write_recipe(folder, file, **data):
    """Write a copy of the tiny recipe that reads this file of rows."""
    tables = read_toml(TINY)
    kept = {key: value for key, value in tables["data"].items() if key != "corpus"}
    path = folder / f"{Path(file).name}.toml"
    path.write_text(tomli_w.dumps(tables | {"data": kept | {"path": str(file)} | data}))
    return path


def toy_rows(**columns):
    """Return the rows of the toy corpus, each column under the name given for it."""
    return [{new: row[old] for old, new in columns.items()} for row in toy.load().rows]


def wait_for_line(process, file, count):
    """Wait until the file has that many lines, or the process ends."""
    while process.poll() is None and (not file.exists() or file.read_bytes().count(b"\n") < count):
        time.sleep(0.002)


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def numbers(run):
    """Return the metrics that no interruption changes: not the seconds, nor bytes sent again to nodes that forgot."""
    return [_without(record | {"clients": [_without(c) for c in record["clients"]]}) for record in records(run)]


def _without(values):
    return {key: value for key, value in values.items() if key not in ("seconds", "bytes_down", "bytes_by_part")}


def entries(run):
    return verify_journal(run / "journal")


def hashes(run):
    """Return the hash of the global update after each round."""
    return [entry["adapter_hash"] for entry in entries(run)]


def weights(run):
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def same_result(run, other):
    """Return whether two runs ended with the same bits, in each round and in the published files."""
    same_numbers = numbers(run) == numbers(other)
    return hashes(run) == hashes(other) and weights(run) == weights(other) and same_numbers
