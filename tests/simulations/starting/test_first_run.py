"""The commands of docs/first-run.md, typed one after the other; the hub is one on loopback."""

import csv
import re
import shlex

import pytest
from huggingface_hub import constants

from simulations.tiny_base import tiny_base
from tests.helpers.client.hub_files import Shelf, serving_files
from tests.helpers.end_to_end.command import ROOT, call
from tests.helpers.simulations.runs import toy_rows

PAGE = ROOT / "docs" / "first-run.md"
BRIEF = ["--set", "train.rounds=1", "--set", "train.steps=1", "--set", "workers=1"]


def commands(text):
    """Return the commands of all blocks, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [words for line in "".join(blocks).splitlines() if (words := shlex.split(line, comments=True))]


def test_each_command_works_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["body", "queue", "hospital"])
        rows = toy_rows(text="body", label="queue")
        table.writerows([row["body"], row["queue"], "AB"[number % 2]] for number, row in enumerate(rows))
    model = {file.name: file.read_bytes() for file in tiny_base("bert").iterdir()}
    typed = commands(PAGE.read_text(encoding="utf-8"))
    assert {words[1] for words in typed} == {"fetch", "check", "init", "simulate"}
    with serving_files(Shelf(model, "models/sentence-transformers/all-MiniLM-L6-v2")) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        for name, *words in typed:
            assert name == "fedlora"
            ended = call(*words, *(BRIEF if words[0] == "simulate" else []))
            assert ended.status == 0, (words, ended)
    assert list((tmp_path / "runs").glob("tickets-*/report.html"))


@pytest.mark.parametrize("command", ["check", "fetch", "init"])
def test_the_readme_names_the_command(command):
    assert f"fedlora {command} " in (ROOT / "README.md").read_text(encoding="utf-8")
