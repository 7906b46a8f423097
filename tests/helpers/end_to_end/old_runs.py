"""Copies of the half-done runs in tests/fixtures/old_runs, as their owners would find them on their disks."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from safetensors.numpy import load_file

from common.identity.project_files import read_project_files
from simulations.cache import cache_folder
from simulations.tiny_base import tiny_base
from tests.helpers.common.identity_parties import accept
from tests.helpers.end_to_end.command import call
from tests.helpers.end_to_end.deployment import free_port

OLD_RUNS = Path(__file__).parents[2] / "fixtures" / "old_runs"


def old_simulation(folder: Path) -> tuple[Path, Path]:
    """Return the recipe and the run; `tiny:roberta` is its base as long as only this test uses $FEDLORA_CACHE."""
    assert folder in cache_folder().parents
    made = tiny_base("roberta")
    shutil.rmtree(made)
    shutil.copytree(OLD_RUNS / "base", made)
    copy = shutil.copytree(OLD_RUNS / "simulation", folder / "simulation")
    return copy / "recipe.toml", copy / "run"


class OldDeployment:
    """The project `cardio`, its run `first`, and its nodes."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(OLD_RUNS / "base", folder / "base")
        self.folder = shutil.copytree(OLD_RUNS / "deployment", folder / "deployment")
        self.keys, self.run = self.folder / "keys", self.folder / "runs" / "first"
        for keys in (self.keys, *(path for path in (self.folder / "nodes").iterdir() if path.is_dir())):
            keys.chmod(0o700)
            for file in keys.iterdir():
                file.chmod(0o600)
        self._renew_what_expired()
        self._move_to(free_port())

    def node_file(self, name: str) -> Path:
        """Return the file of a node."""
        return self.folder / "nodes" / f"{name}.toml"

    def invite(self, name: str) -> None:
        """Confirm the node's invite, which puts it where its keys are."""
        accept(self.folder / "nodes" / name, self.keys / f"{name}.invite")

    def set(self, key: str, value: str) -> None:
        """Give a key at the top of server.toml another value."""
        file = self.folder / "server.toml"
        lines = [f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines) + "\n")

    def _move_to(self, port: int) -> None:
        self.set("listen", f'"localhost:{port}"')
        for file in (self.folder / "nodes").glob("*.toml"):
            file.write_text(file.read_text().replace("localhost:8443", f"localhost:{port}"))

    def _renew_what_expired(self) -> None:
        """Renew ended certificates as operators do; the server's end 90 days after the run, a node's after a year."""
        project, now = read_project_files(self.keys), datetime.now(UTC)
        if project.server.not_valid_after_utc < now:
            assert call("keys", "renew", "--dir", self.keys).status == 0
        for name, member in project.roster.members.items():
            if member.expires < now:
                assert call("keys", "renew", name, "--dir", self.keys).status == 0
                self.invite(name)


def whole(kind: str) -> dict:
    """Return the tensors that the old code ended with."""
    return load_file(OLD_RUNS / kind / "whole.safetensors")
