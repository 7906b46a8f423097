"""`fedlora client`: a node, from one file and one folder of keys, until the server's run is over."""

import logging
import os
import signal
from functools import partial
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client.notary import Notary
from client.settings import read_node
from common.errors import ConfigError
from common.flower import identify
from common.identity.credentials import load_node
from common.interrupt import ends_on
from common.settings import Node

log = logging.getLogger(__name__)


class LaterApp(ClientApp):
    """The node's app, imported once it is asked: PyTorch takes seconds, a cause of no connection must not."""

    def __call__(self, message: Message, context: Context) -> Message:
        """The app's reply."""
        from client.app import app

        return app(message, context)


def take_part(file: Path) -> None:
    """Answer the server until its run is over; with `stay`, until the process ends.

    SIGINT and SIGTERM end the process at once, with status 0.

    Raises:
        FedloraError: a setting or key is wrong, or the server and the node do not trust each other.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with ends_on(signal.SIGINT, signal.SIGTERM, status=0, message="stopped"):
        _take_part(file)


def _take_part(file: Path) -> None:
    from client.link import Link  # after GRPC_VERBOSITY is set

    node = read_node(file)
    _check(node, file)
    credentials = load_node(Path(node.keys), node.name)
    for warning in credentials.warnings:
        log.warning("%s", warning)
    identify()
    notary = Notary(Path(node.keys), credentials)
    while True:
        context = Context(1, 2, {"node": str(file)}, RecordDict(), {})
        Link(node.server, credentials, node.rank, LaterApp(), context, notary, partial(_read, file)).run()
        log.info("the run is over")
        if not node.stay:
            return


def _read(file: Path) -> None:
    """Read the node's base model and rows, which ends a node that cannot before it is asked for anything."""
    from client.node import load_node

    log.info("reading base model and data")
    load_node(file)


def _check(node: Node, file: Path) -> None:
    missing = [key for key in ("server", "keys") if not getattr(node, key)]
    if missing:
        raise ConfigError(f"{file}: {' and '.join(missing)} must be set to take part; see: fedlora client --example")
