"""`fedlora client`: a node, from one file and one folder of keys, until the server's run is over."""

import logging
import os
import signal
from pathlib import Path

from flwr.app import Context, RecordDict

from client.node import read_node
from client.notary import Notary
from common.errors import ConfigError
from common.flower import identify
from common.identity.credentials import load_node
from common.interrupt import ends_on
from common.settings import Node

log = logging.getLogger(__name__)


def take_part(file: Path) -> None:
    """Answer the server until its run is over; with `stay`, until the process ends.

    SIGINT and SIGTERM end the process at once, with status 0.

    Raises:
        FedloraError: a setting or key is wrong, or the server and the node do not trust each other.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    node = read_node(file)
    _check(node, file)
    credentials = load_node(Path(node.keys), node.name)
    for warning in credentials.warnings:
        log.warning("%s", warning)
    identify()
    from client.app import app
    from client.link import Link  # after GRPC_VERBOSITY is set

    notary = Notary(Path(node.keys), credentials)
    with ends_on(signal.SIGINT, signal.SIGTERM, status=0, message="stopped"):
        while True:
            Link(
                node.server, credentials, node.rank, app, Context(1, 2, {"node": str(file)}, RecordDict(), {}), notary
            ).run()
            log.info("the run is over")
            if not node.stay:
                return


def _check(node: Node, file: Path) -> None:
    missing = [key for key in ("server", "keys") if not getattr(node, key)]
    if missing:
        raise ConfigError(f"{file}: {' and '.join(missing)} must be set to take part; see: fedlora client --example")
