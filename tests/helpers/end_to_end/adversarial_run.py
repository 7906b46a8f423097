"""A run of three good nodes beside others, who may be hostile and are all connected before its first round."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from common.identity.documents import roster
from common.identity.keys import certificates, private_keys
from common.identity.keys.certificates import Authority
from common.identity.project_files import read_project_files
from tests.helpers.end_to_end.command import ROOT, end, start
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.end_to_end.throwaway_ca import Pem
from tests.helpers.end_to_end.transport import until


class Disturbed:
    """A project, and how its run went.

    Args:
        folder: of the project.
        others: names of nodes that tests.hostile runs.
        ranks: the largest that the roster allows to some of them.
        server: keys of [server].
    """

    def __init__(self, folder: Path, others: Iterable[str], server: Mapping[str, Any] | None = None, **ranks: int):
        self.project = Project(folder, "train.steps=4")
        self.project.write_server(**server or {})
        self._names = list(others)
        for name in self._names:
            self.project.admit(name, ranks.get(name, 16))
        self._log, self._go = folder / "server.log", folder / "go"

    @property
    def log(self) -> list[str]:
        """The server's output, without the times."""
        return [line.split(" ", 2)[-1] for line in self._log.read_text().splitlines()]

    def run(self, outsiders: Iterable[Path] = (), meanwhile: Callable[[], None] = lambda: None) -> None:
        """Run to the end; then `ends` has those of the server, tests.hostile, the good nodes and the outsiders.

        Args:
            outsiders: files of nodes that are started beside the good ones.
            meanwhile: done when all nodes are connected.
        """
        processes = []
        try:
            with self._log.open("w") as log:
                processes.append(self.project.server(log))
            processes.append(self._hostile())
            self._wait_for(self._names)
            processes += [*self.project.clients(), *(start("client", file) for file in outsiders)]
            self._wait_for(NODES)
            meanwhile()
            self._go.touch()
            self.ends = [end(processes[0])]
            assert self.ends[0].status == 0, self.log[-30:]
            self.ends += [end(process) for process in processes[1:]]
        finally:
            for process in processes:
                process.kill()

    def _hostile(self) -> subprocess.Popen[str]:
        files = [self.project.node_file(name, rank=16) for name in self._names]
        command = [sys.executable, "-m", "tests.helpers.end_to_end.hostile", str(self._go), *map(str, files)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def _wait_for(self, names: Iterable[str]) -> None:
        until(lambda: {f"node {name} is connected" for name in names} <= set(self.log), seconds=120)


def admit_unlisted(project: Project, name: str) -> None:
    """Make a node's certificate, and put back the roster of before, which does not have it."""
    file = project.folder / "keys" / "roster.json"
    before = file.read_bytes()
    project.admit(name)
    file.write_bytes(before)


def let_expire(project: Project, name: str) -> None:
    """End a node's time on the roster; its certificate goes on."""
    folder = project.folder / "keys"
    before = read_project_files(folder).roster
    past = replace(before.member(name), expires=datetime.now(UTC) - timedelta(days=1))
    signed = roster.sign_roster(before.successor(past), private_keys.read_signing_key(folder / "roster.key"))
    (folder / "roster.json").write_bytes(signed)


def expired_certificate(project: Project, name: str) -> Pem:
    """Make a certificate of this name by the project's authority, whose year is over."""
    folder, key = project.folder / "keys", private_keys.new_tls_key()
    authority = Authority(read_project_files(folder).authority, private_keys.read_tls_key(folder / "ca.key"))
    made = certificates.make_node_certificate(
        name, key.public_key(), authority, datetime.now(UTC) - timedelta(days=366)
    )
    return Pem((folder / "ca.pem").read_bytes(), certificates.to_pem(made), private_keys.to_plain_pem(key))
