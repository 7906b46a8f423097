"""`fedlora server`: runs the aggregator over mutual TLS, from one file and one folder of keys, until its last round."""

import logging
import shlex
import signal
from functools import partial
from pathlib import Path

from common.errors import IdentityError
from common.identity.credentials import ServerCredentials, load_server_credentials
from common.settings.server import ServerFile
from common.signals import exit_on_signal
from server.algorithms import weights_of
from server.monitoring.console import ConsoleLog
from server.monitoring.status import ServerStatus
from server.notifications import NoticeBroadcaster, Notices
from server.rounds.loop import RoundLoop
from server.rounds.observer import Observers
from server.rounds.quorum import wait_for_nodes
from server.rounds.run_settings import RunSettings
from server.run_folder import open_run_folder
from server.settings import read_server
from server.storage.journal import Journal
from server.transport.authorization import RosterGuard
from server.transport.flower_messenger import FlowerMessenger
from server.transport.grid import GrpcGrid, NodeGuard
from server.transport.listener import raise_open_file_limit
from server.transport.quota import NodeQuota

log = logging.getLogger(__name__)


def serve(file: Path) -> Path:
    """Serve all rounds of a run, and return its folder.

    A run that has already begun in the folder is resumed. SIGINT and SIGTERM end the process at once, with status 0.

    Raises:
        FedloraError: a setting or key is wrong, another server uses the folder or the port, or a round failed.
    """
    raise_open_file_limit()
    settings = read_server(file)
    credentials = load_server_credentials(Path(settings.keys))
    if credentials.project != settings.project:
        raise IdentityError(
            f"project = {settings.project!r}, but {settings.keys} contains the keys of {credentials.project!r}; "
            "set keys to the folder of this project"
        )
    for warning in credentials.warnings:
        log.warning("%s", warning)
    if (members := len(credentials.roster.members)) < settings.quorum:
        log.warning(
            "quorum = %s, but the roster has %s nodes; admit more nodes, or lower quorum", settings.quorum, members
        )
    again = shlex.join(["fedlora", "server", str(file)])
    with exit_on_signal(signal.SIGINT, signal.SIGTERM, status=0, message=f"stopped; resume with: {again}"):
        _run(settings, credentials)
    return Path(settings.folder)


def _run(settings: ServerFile, credentials: ServerCredentials) -> None:
    roster_guard = RosterGuard(
        Path(settings.keys), credentials.roster, credentials.roster_bytes, weights_of(settings.server)
    )
    with Journal.open(Path(settings.folder) / "journal") as journal:
        # Only now: the lock of the journal keeps a second server from rewriting the settings of this run.
        folder = open_run_folder(settings, begun=bool(journal.entries))
        folder.restore(journal.entries)
        if len(journal.entries) > settings.rounds:
            log.info("all %s rounds are done; set another `run` to train more", settings.rounds)
            return
        notices = Notices(journal, roster_guard, credentials)
        checks = roster_guard.authorize_node, roster_guard.authorize_reply
        guard = NodeGuard(*checks, notices.on_connect, NodeQuota(), settings.server.codec)
        with GrpcGrid(settings.listen, credentials, guard, folder.journal, settings.health) as grid:
            health = f"127.0.0.1:{grid.health_port}"
            log.info("listening at %s as %s; health at %s", settings.listen, settings.project, health)
            status = ServerStatus(folder.path, grid, settings.listen, health)
            status.restore(journal.entries)
            observers = Observers([folder, status, ConsoleLog(log), NoticeBroadcaster(grid, notices)])
            with status.heartbeat():
                messenger, publish = (
                    FlowerMessenger(grid, settings.deadline),
                    partial(folder.publish, base=settings.project),
                )
                wait_for_nodes(messenger, settings.quorum, observers)
                run = RunSettings.from_server_file(settings)
                RoundLoop(messenger, run, journal, observers, publish, limit=roster_guard.max_weight).run()
