"""A project's operator and its nodes, with keys of their own in folders of their own."""

from datetime import UTC, datetime
from pathlib import Path

from common.identity import node as node_keys
from common.identity import operator as project
from common.identity.credentials import (
    NodeCredentials,
    ServerCredentials,
    load_node_credentials,
    load_server_credentials,
)
from tests.helpers.common.identity_parties import accept

NOW = datetime.now(UTC)


class Identities:
    """The operator's folder is `keys`, a node's has the node's name."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder, self.keys = folder, folder / "keys"
        project.init(self.keys, "demo", ["localhost"], NOW)
        for name in names:
            self.admit(name)

    def admit(self, name: str) -> None:
        own = self.folder / name
        node_keys.join(own, name)
        request = node_keys.load_request(own / f"{name}.request")
        invite = project.admit(self.keys, request, max_rank=8, max_weight=5000, now=NOW)
        accept(own, invite)

    def node(self, name: str) -> NodeCredentials:
        return load_node_credentials(self.folder / name, name)

    def server(self) -> ServerCredentials:
        return load_server_credentials(self.keys)

    def revoke(self, name: str) -> None:
        project.revoke(self.keys, name, NOW)

    @property
    def roster(self) -> bytes:
        return (self.keys / "roster.json").read_bytes()
