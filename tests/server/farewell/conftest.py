"""A project with folders of runs that have ended, beside that of a run to come."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w

from common.settings.reader import to_tables
from common.settings.recipe import Steps
from common.settings.server import ServerFile
from server.rounds.run_settings import RunSettings
from tests.helpers.end_to_end.identities import Identities
from tests.helpers.server.runs import fresh, run


class Runs:
    """Keys of a project, and its folder of runs."""

    def __init__(self, folder: Path) -> None:
        self.identities, self.folder = Identities(folder, "ada", "bob"), folder / "runs"
        self.credentials = self.identities.server()

    def settings(self, name: str) -> ServerFile:
        return ServerFile(project="demo", run=name, rounds=2, train=Steps(steps=3, lr=0.1))

    def identity(self, name: str) -> str:
        return RunSettings.from_server_file(self.settings(name)).config

    def make(self, name: str, rounds: int = 2) -> Path:
        """Make the folder of a run of which these rounds are done, and return it."""
        settings, path = self.settings(name), self.folder / name
        path.mkdir(mode=0o700, parents=True)
        (path / "config.toml").write_text(tomli_w.dumps(to_tables(settings)))
        own = RunSettings.from_server_file(settings)
        run(path / "journal", fresh(), replace(own, train=replace(own.train, rounds=rounds)))
        (path / "journal" / "roster.json").write_bytes(self.identities.roster)
        return path


@pytest.fixture
def runs(tmp_path):
    before = os.umask(0o077)
    yield Runs(tmp_path)
    os.umask(before)
