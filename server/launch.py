"""`fedlora server`: the aggregator over mutual TLS, from one file and one folder of keys, to the end of its rounds."""

import logging
import os
import shlex
import signal
from functools import partial
from pathlib import Path

from common.config import config_hash, parse, read_toml, to_tables
from common.errors import ConfigError, IdentityError
from common.identity.credentials import ServerCredentials, load_server
from common.interrupt import ends_on
from common.settings import ServerFile
from server.console import Console
from server.door import Door
from server.folder import RunFolder
from server.journal import Journal
from server.limits import Limits
from server.observer import Observers
from server.plan import plan_of_file, read_server
from server.quorum import wait_for_nodes
from server.rounds import Rounds
from server.status import Status
from server.strategy import FlowerExchange

log = logging.getLogger(__name__)


def serve(file: Path) -> Path:
    """The run's folder, once all its rounds are committed.

    A folder in which the run has begun is gone on with. SIGINT and SIGTERM end the process at once, with status 0.

    Raises:
        FedloraError: a setting or key is wrong, another server has the folder or the port, or a round failed.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else a line for each handshake that is refused
    settings = read_server(file)
    credentials = load_server(Path(settings.keys))
    if credentials.project != settings.project:
        raise IdentityError(
            f"project = {settings.project!r}, and {settings.keys} holds the keys of {credentials.project!r}; "
            "set keys to the folder of this project"
        )
    for warning in credentials.warnings:
        log.warning("%s", warning)
    folder = _folder(settings)
    again = shlex.join(["fedlora", "server", str(file)])
    with ends_on(signal.SIGINT, signal.SIGTERM, status=0, message=f"stopped; go on with: {again}"):
        _run(settings, credentials, folder)
    return folder.path


def _folder(settings: ServerFile) -> RunFolder:
    path = Path(settings.folder)
    if not (path / "config.toml").is_file():
        return RunFolder.create(path, to_tables(settings))
    begun = parse(ServerFile, read_toml(path / "config.toml"), str(path / "config.toml"))
    if config_hash(begun) != config_hash(settings):
        raise ConfigError(
            f"{path} holds a run with other settings ({config_hash(begun)}, these are {config_hash(settings)}); "
            "give this one another `run`, or set back what you changed"
        )
    return RunFolder(path)


def _run(settings: ServerFile, credentials: ServerCredentials, folder: RunFolder) -> None:
    from server.grid import Gate, GrpcGrid  # after GRPC_VERBOSITY is set

    door = Door(Path(settings.keys), credentials.roster, settings.server.weights)
    status, console = Status(folder.path), Console(log)
    with Journal.open(folder.journal) as journal:
        folder.restore(journal.entries)
        status.restore(journal.entries)
        gate, observers = Gate(door.admit, door.objection, Limits()), Observers([folder, status, console])
        with GrpcGrid(settings.listen, credentials, gate, folder.journal) as grid:
            log.info("listening at %s as %s", settings.listen, settings.project)
            exchange = FlowerExchange(grid, settings.deadline)
            wait_for_nodes(exchange, settings.quorum, observers)
            publish = partial(folder.publish, base=settings.project)
            Rounds(exchange, plan_of_file(settings), journal, observers, publish).run()
