"""A project on this machine: keys, a server's file and nodes' files, and the processes that a run needs."""

import socket
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import tomli_w

import client.app
from common.identity import project_files
from common.settings.reader import read_toml
from server.app import make_app
from simulations.grid import InProcessGrid
from simulations.simulate import simulate
from tests.helpers.end_to_end.command import TINY, call, end, start

NODES = {"client-00": 4, "client-01": 8, "client-02": 16}
"""Name and rank of each node."""
SETTINGS = (
    "clients.count=3",
    f"clients.ranks={list(NODES.values())}",
    "train.rounds=3",
    "train.steps=16",
    "train.lr=1e-2",
    "data.test_rows=0",
)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


class Project:
    """Keys of the operator in `keys`, a folder of keys for each node, the rows and files of a prepared simulation."""

    def __init__(self, folder: Path, *settings: str, max_weight: int = 5000, recipe: Path = TINY) -> None:
        self.folder, self.port, self._max_weight = folder, free_port(), max_weight
        self.run = folder / "runs" / "first"
        self.shards = simulate(recipe, [*SETTINGS, *settings], "shards", folder, None, prepare_only=True)
        self.keys("init", "--project", "demo", "--server", "localhost")
        for name in NODES:
            self.admit(name)
        self.write_server()

    def keys(self, *words: object) -> None:
        ended = call("keys", *words, "--dir", self.folder / "keys")
        assert ended.status == 0, ended.err

    def admit(self, name: str, rank: int = 16) -> None:
        """Make the node's keys, admit it, and confirm its invite."""
        own = self.folder / name
        assert call("keys", "join", "--name", name, "--dir", own).status == 0
        self.keys("admit", own / f"{name}.request", "--max-rank", rank, "--max-weight", self._max_weight)
        fingerprint = project_files.read_project_files(self.folder / "keys").fingerprint
        invite = self.folder / "keys" / f"{name}.invite"
        ended = call("keys", "accept", invite, "--fingerprint", fingerprint, "--dir", own)
        assert ended.status == 0, ended.err

    def node_file(
        self, name: str, like: str = "client-00", keys: Path | str | None = None, stem: str = "", **changes: object
    ) -> Path:
        """Write the file of a node with the rows of another; it saves no run but by `save`."""
        tables = dict(read_toml(self.shards / "nodes" / f"{like}.toml"))
        own = {
            "name": name,
            "server": f"localhost:{self.port}",
            "keys": str(self.folder / name if keys is None else keys),
            "save": False,
        }
        file = self.shards / "nodes" / f"{stem or name}.own.toml"
        file.write_text(tomli_w.dumps(tables | own | changes))
        return file

    def server(self, log=subprocess.PIPE):
        return start("server", self.folder / "server.toml", log=log)

    def clients(self, **changes: object):
        return [start("client", self.node_file(name, like=name, **changes)) for name in NODES]

    def whole_run(self, *others, **changes: object):
        """Return the ends of the server and the three nodes, then of `others`, started once these are connected.

        The three nodes' files have these changes.
        """
        server, nodes = self.server(), self.clients(**changes)
        for _ in NODES:  # the run begins with those, and its largest rank is theirs
            while "is connected" not in (line := server.stderr.readline()) and line:
                pass
        return [
            end(process) for process in (server, *nodes, *(start("client", file, "--fail-fast") for file in others))
        ]

    def run_in_one_process(self) -> Path:
        """Run the prepared simulation of the same nodes, and return its folder."""
        files = [self.shards / "nodes" / f"{name}.toml" for name in NODES]
        with InProcessGrid(client.app.app, files, workers=2, threads=1) as grid:
            grid.serve(make_app(), self.shards)
        return self.shards

    def write_server(self, quorum: int = 3, run: str = "first", **server: object) -> None:
        """Write the server's file, with these keys of [server]."""
        config = read_toml(self.shards / "config.toml")
        train = {key: value for key, value in config["train"].items() if key != "rounds"}
        top = {
            "project": "demo",
            "run": run,
            "rounds": config["train"]["rounds"],
            "listen": f"localhost:{self.port}",
            "quorum": quorum,
        }
        top["base"] = {"file": "shards/base.toml"}
        tables = top | {"seed": config["seed"], "lora": config["lora"], "train": train, "server": server}
        (self.folder / "server.toml").write_text(tomli_w.dumps(tables))


def project_of(folder: Path, rule: Mapping[str, object], *settings: str) -> Project:
    """Make a project whose simulation and server have these keys of [server], and further settings of the recipe."""
    project = Project(folder, *settings, *(f"server.{key}={value}" for key, value in rule.items()))
    project.write_server(**rule)
    return project
