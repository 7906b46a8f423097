"""`fedlora client`: run a node, from one settings file and one folder of keys, until the server's run is over."""

import logging
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from client.data.files.emptiness import is_without_rows
from client.data.files.folder import is_folder_of_rows
from client.network.audit import LogAuditor
from client.network.link import Link
from client.network.responder import Responder
from client.settings import read_node
from common.closed_folders import closed_to_others
from common.errors import ConfigError, DataError
from common.identity import credentials
from common.log_format import event
from common.protocol.flower import identify
from common.settings.node import Node
from common.signals import STOPS, exit_on_signal

if TYPE_CHECKING:
    from client.objectives.encoding import Findings

log = logging.getLogger(__name__)


def run_node(file: Path, fail_fast: bool = False, local: bool = False) -> None:
    """Answer the server until its run is over; with `stay`, until the process ends.

    SIGINT, SIGTERM and SIGHUP end the process at once, with status 0.

    Args:
        file: of the node.
        fail_fast: end at the first certificate that cannot be trusted; otherwise after a day of them.
        local: after a run, train alone too, for its report.

    Raises:
        FedloraError: a setting or key is wrong, or the server and the node do not trust each other.
    """
    with closed_to_others(), exit_on_signal(*STOPS, status=0, message="stopped"):
        _run_node(file, fail_fast, local)


def _run_node(file: Path, fail_fast: bool, local: bool) -> None:
    node = read_node(file)
    _check(node, file)
    if local and not node.save:
        raise ConfigError(f"{file}: save = false keeps no report for --local to fill; set save = true, or omit --local")
    identify()
    while True:
        _link(node, file, fail_fast).run()
        log.info("the run is over", extra=event("run-over"))
        _end_run(file, local)
        if not node.stay:
            return


def _link(node: Node, file: Path, fail_fast: bool) -> Link:
    """Make a new link for each run, so that a node that stays uses an invite that its operator has renewed."""
    own = credentials.load_node_credentials(Path(node.keys), node.name)
    for warning in own.warnings:
        log.warning("%s", warning, extra=event("warning"))
    context = Context(1, 2, {"node": str(file), "keep": True, "project": own.project_fingerprint}, RecordDict(), {})
    auditor = LogAuditor(Path(node.keys), own)
    responder = Responder(partial(_app, file), context, auditor, ends_refused=not node.stay)
    return Link(node.server, own, node.rank, responder, fail_fast=fail_fast)


def _end_run(file: Path, local: bool) -> None:
    if _app.cache_info().currsize:  # Else the server has asked for nothing, and PyTorch is not loaded.
        from client.results.report import end_run

        end_run(file, local)


@cache
def _app(file: Path) -> ClientApp:
    """Load the node's app, base model and rows.

    Called only after the server has accepted the node, as PyTorch alone takes seconds to import.
    """
    log.info("reading base model and data", extra=event("loading"))
    from client.app import app
    from client.node import load_node

    node = load_node(file)
    _tell(node.train.found)
    rows, rank = len(node.train), node.settings.rank
    extra = event("ready", rows=rows, rank=rank)
    log.info("ready: %s rows to train on, rank %s; waiting for the server", rows, rank, extra=extra)
    return app


def _tell(found: "Findings") -> None:
    """Log what is wrong with rows: those that were left out, by reason, and labels that look alike."""
    for line in found.by_reason():
        log.warning("%s", line, extra=event("rows-skipped", rows=len(found.skipped), reason=line))
    for warning in found.warnings:
        log.warning("%s", warning, extra=event("similar-labels"))


def _check(node: Node, file: Path) -> None:
    missing = [key for key in ("server", "keys") if not getattr(node, key)]
    if missing:
        raise ConfigError(f"{file}: {' and '.join(missing)} must be set to take part; see: fedlora client --example")
    for key in ("base", "data"):
        path = getattr(node, key).path
        if not (path.startswith("package:") or Path(path).exists() or is_folder_of_rows(Path(path))):
            raise ConfigError(f"{file}: {key} = {path!r} does not exist; paths are relative to this file")
    try:
        empty = is_without_rows(Path(node.data.path), node.data.encoding)
    except OSError as error:
        raise ConfigError(f"{file}: data = {node.data.path!r}: {error.strerror}; give the path of a file") from None
    if empty:
        raise DataError(f"{node.data.path} contains no rows; give a file with at least one as `data` in {file}")
