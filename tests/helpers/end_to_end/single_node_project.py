"""A project with one node, and its `fedlora client`."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import tomli_w

from common.identity import node as node_keys
from common.identity import operator as project
from common.identity import project_files
from common.identity.keys import private_keys
from server.transport.authorization import RosterGuard
from server.transport.grid import GrpcGrid, NodeGuard
from server.transport.quota import NodeQuota
from tests.helpers.client.nodes import write_node
from tests.helpers.common.identity_parties import NOW, accept, days_ago
from tests.helpers.end_to_end.command import start
from tests.helpers.end_to_end.throwaway_ca import Pem


class Clinic:
    """A project with one node of rank 8 at most, and a roster of before that node."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.keys = folder, folder / "keys"
        project.init(self.keys, "cardio", ["localhost"], days_ago(400))
        project.renew_server(self.keys, NOW)
        self.empty_roster = (self.keys / "roster.json").read_bytes()
        request = node_keys.join(folder / "node", "clinic")
        accept(folder / "node", project.admit(self.keys, request, 8, 5000, NOW))

    @contextmanager
    def server(self) -> Iterator[int]:
        """Yield the port of a server with the project's keys, which are not checked as `fedlora server` checks them."""
        ca, own = ((self.keys / name).read_bytes() for name in ("ca.pem", "server.pem"))
        tls = Pem(ca, own, private_keys.to_plain_pem(private_keys.read_tls_key(self.keys / "server.key")))
        public = project_files.read_project_files(self.keys)
        roster_guard = RosterGuard(self.keys, public.roster, public.signed_roster, "examples")
        grid = GrpcGrid(
            "127.0.0.1:0",
            tls,
            NodeGuard(roster_guard.authorize_node, roster_guard.authorize_reply, lambda name: (), NodeQuota()),
            self.folder,
        )
        self.grid = grid
        yield grid.port
        grid.close(finished=True)

    def renew(self, now: datetime) -> None:
        """Give the node the invite that it would have got then."""
        shutil.copy(project.renew_node(self.keys, "clinic", now), self.folder / "node")

    def start(self, server: str, *options: str, **changes: object) -> subprocess.Popen[str]:
        """`fedlora client` of the node, with these options; its base is empty, and its only row useless."""
        file = self.folder / "client.toml"
        (self.folder / "base").mkdir(exist_ok=True)
        (self.folder / "rows.jsonl").write_text("{}\n")
        own = {"name": "clinic", "rank": 8, "base": "base", "data": "rows.jsonl", "keys": "node"}
        file.write_text(tomli_w.dumps(own | {"server": server} | changes))
        return start("client", file, *options)

    def start_whole(self, server: str, **changes: object) -> subprocess.Popen[str]:
        """`fedlora client` of the node with base and rows."""
        return start("client", write_node(self.folder, rank=8, keys="node", server=server, **changes))
