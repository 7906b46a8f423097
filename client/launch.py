"""`fedlora client`: run a node, from one settings file and one folder of keys, until the server's run is over."""

import logging
from functools import cache, partial
from pathlib import Path

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from client.network.audit import LogAuditor
from client.network.link import Link
from client.network.responder import Responder
from client.settings import read_node
from common.closed_folders import closed_to_others
from common.errors import ConfigError
from common.identity import credentials
from common.log_format import event
from common.plain_files import check_plain
from common.protocol.flower import identify
from common.settings.node import Node
from common.signals import STOPS, exit_on_signal

log = logging.getLogger(__name__)


def run_node(file: Path, fail_fast: bool = False) -> None:
    """Answer the server until its run is over; with `stay`, until the process ends.

    SIGINT, SIGTERM and SIGHUP end the process at once, with status 0.

    Args:
        file: of the node.
        fail_fast: end at the first certificate that cannot be trusted; otherwise after a day of them.

    Raises:
        FedloraError: a setting or key is wrong, or the server and the node do not trust each other.
    """
    with closed_to_others(), exit_on_signal(*STOPS, status=0, message="stopped"):
        _run_node(file, fail_fast)


def _run_node(file: Path, fail_fast: bool) -> None:
    node = read_node(file)
    _check(node, file)
    identify()
    while True:
        _link(node, file, fail_fast).run()
        log.info("the run is over", extra=event("run-over"))
        if not node.stay:
            return


def _link(node: Node, file: Path, fail_fast: bool) -> Link:
    """Make a new link for each run, so that a node that stays uses an invite that its operator has renewed."""
    own = credentials.load_node_credentials(Path(node.keys), node.name)
    for warning in own.warnings:
        log.warning("%s", warning, extra=event("warning"))
    context = Context(1, 2, {"node": str(file)}, RecordDict(), {})
    responder = Responder(partial(_app, file), context, LogAuditor(Path(node.keys), own))
    return Link(node.server, own, node.rank, responder, fail_fast=fail_fast)


@cache
def _app(file: Path) -> ClientApp:
    """Load the node's app, base model and rows.

    Called only after the server has accepted the node, as PyTorch alone takes seconds to import.
    """
    log.info("reading base model and data", extra=event("loading"))
    from client.app import app
    from client.node import load_node

    node = load_node(file)
    rows, rank = len(node.train), node.settings.rank
    extra = event("ready", rows=rows, rank=rank)
    log.info("ready: %s rows to train on, rank %s; waiting for the server", rows, rank, extra=extra)
    return app


def _check(node: Node, file: Path) -> None:
    missing = [key for key in ("server", "keys") if not getattr(node, key)]
    if missing:
        raise ConfigError(f"{file}: {' and '.join(missing)} must be set to take part; see: fedlora client --example")
    for key in ("base", "data"):
        path = getattr(node, key).path
        if not path.startswith("package:") and not Path(path).exists():
            raise ConfigError(f"{file}: {key} = {path!r} does not exist; paths are relative to this file")
    try:
        check_plain(Path(node.data.path), links=True)
    except OSError as error:
        raise ConfigError(f"{file}: data = {node.data.path!r}: {error.strerror}; give the path of a file") from None
