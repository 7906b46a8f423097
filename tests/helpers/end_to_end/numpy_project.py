"""A project whose server is a process of its own, and whose nodes are threads of this one that train in NumPy.

Everything between them is real: keys, roster, signatures, gRPC with mutual TLS. A whole run takes seconds.
"""

import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import ClassVar

import tomli_w
from flwr.app import Context, Message, RecordDict

from client.network.audit import LogAuditor
from client.network.link import Link
from client.network.responder import Responder
from common.errors import TransportError
from common.huggingface.base_file import BaseFile, write_base_file
from common.identity import node as node_keys
from common.identity import operator
from common.identity.credentials import load_node_credentials
from common.protocol.flower import identify
from common.protocol.payload import Kind, Payload
from tests.helpers.common.identity_parties import accept
from tests.helpers.end_to_end.command import Ended, end, start
from tests.helpers.end_to_end.deployment import free_port
from tests.helpers.server.exchange import NumpyNode, described

HONEST = (NumpyNode("ada", 4), NumpyNode("bob", 8), NumpyNode("cyd", 16))
"""Nodes of three ranks, for a run that nothing disturbs."""
Spoil = Callable[[Kind, Payload, Payload], Payload]
"""Returns what a node sends, from the kind of the message, the message, and the honest reply."""


def honest(kind: Kind, asked: Payload, reply: Payload) -> Payload:
    """Return the reply as it is."""
    return reply


class NumpyProject:
    """Keys in `keys` and `nodes`, a server's file, and its log.

    Args:
        folder: of the project.
        server: keys of [server] in the server's file.
        top: keys at the top of it.
    """

    def __init__(self, folder: Path, server: dict[str, object] | None = None, **top: object) -> None:
        self.folder, self.port, self.file = folder, free_port(), folder / "server.toml"
        self.run, self.log_file = folder / "runs" / "first", folder / "server.log"
        operator.init(folder / "keys", "demo", ["localhost"], datetime.now(UTC))
        rest = {"name": "numbers", "targets": "query-value", "max_length": 8}
        write_base_file(folder / "base.toml", BaseFile.of(described(), **rest))
        self.write_server(server or {}, **top)

    def write_server(self, server: dict[str, object], **top: object) -> None:
        """Write the server's file with these keys."""
        tables = {"project": "demo", "run": "first", "rounds": 3, "listen": f"localhost:{self.port}", "quorum": 3}
        tables["base"] = {"file": "base.toml"}
        train = {"steps": 3, "lr": 0.1}
        self.file.write_text(tomli_w.dumps(tables | {"train": train, "server": server} | top))

    def admit(self, name: str, max_rank: int = 16, max_weight: int = 5000) -> None:
        """Make the node's keys, admit it, and confirm its invite."""
        request = node_keys.join(self.folder / "nodes", name)
        invite = operator.admit(self.folder / "keys", request, max_rank, max_weight, datetime.now(UTC))
        accept(self.folder / "nodes", invite)

    def admit_new(self, names: Iterable[str]) -> None:
        """Admit the nodes that are not admitted yet."""
        for name in names:
            if not (self.folder / "nodes" / f"{name}.invite").exists():
                self.admit(name)

    @contextmanager
    def serving(self, *options: object) -> Iterator[subprocess.Popen[str]]:
        """Yield the process of `fedlora server`, which is killed with the block; its log is `log`."""
        with self.log_file.open("a") as log:
            process = start("server", self.file, *options, log=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def listening(self) -> Iterator[subprocess.Popen[str]]:
        """Yield the process once it listens or has ended: nodes that find nobody try again ever later."""
        before = len(self.log_file.read_bytes()) if self.log_file.exists() else 0
        with self.serving() as server:
            while server.poll() is None and b"listening" not in self.log_file.read_bytes()[before:]:
                time.sleep(0.01)
            yield server

    @property
    def log(self) -> list[str]:
        """The server's output, without the times."""
        return [line.split(" ", 2)[-1] for line in self.log_file.read_text().splitlines()]

    def node(self, node: NumpyNode, spoil: Spoil = honest) -> "RunningNode":
        """Start the node of this name in a thread."""
        return RunningNode(self, node, spoil)

    def whole_run(self, nodes: Sequence[NumpyNode], spoil: Mapping[str, Spoil] | None = None) -> Ended:
        """Run the server with these nodes to its end, admitting those that are new, and return its end.

        What a node sends is spoilt by the function at its name.
        """
        self.admit_new(each.name for each in nodes)
        with self.listening() as server, ExitStack() as running:
            for each in nodes:
                running.callback(self.node(each, (spoil or {}).get(each.name, honest)).stop)
            return end(server)


class RunningNode:
    """A node in a thread, with its own link, signatures and audit; `refusal` is why it ended, if the server said so."""

    started: ClassVar[list["RunningNode"]] = []

    def __init__(self, project: NumpyProject, node: NumpyNode, spoil: Spoil) -> None:
        identify()
        self.node, self._spoil, self.refusal = node, spoil, ""
        own = load_node_credentials(project.folder / "nodes", node.name)
        context = Context(1, 2, {"node": node.name}, RecordDict(), {})
        self.auditor = LogAuditor(project.folder / "nodes", own)
        responder = Responder(lambda: self._answer, context, self.auditor)
        self.link = Link(f"localhost:{project.port}", own, node.rank, responder)
        self.thread = Thread(target=self._run, name=node.name, daemon=True)
        self.thread.start()
        self.started.append(self)

    @classmethod
    def stop_all(cls) -> None:
        """End those that run on, as after a test that failed: they would dial in the midst of the next."""
        while cls.started:
            cls.started.pop().stop()

    def _run(self) -> None:
        try:
            self.link.run()
        except TransportError as error:
            self.refusal = str(error)

    def _answer(self, message: Message, context: Context) -> Message:
        kind, asked = message.metadata.message_type, Payload.from_message(message)
        reply = self._spoil(kind, asked, self.node.answer(kind, asked))
        return Message(reply.to_records(), reply_to=message)

    def stop(self) -> None:
        """End it."""
        self.link.stop()
        self.thread.join(30)
