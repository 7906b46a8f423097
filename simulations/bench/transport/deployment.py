"""A deployment on loopback: keys as `fedlora keys` makes them, the grid in this process, nodes in other processes."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp

from client.network.audit import LogAuditor
from client.network.link import Link
from client.network.responder import Auditor as AnyAuditor
from client.network.responder import Responder
from common.identity import acceptance, operator
from common.identity import node as node_keys
from common.identity.credentials import ServerCredentials, load_node_credentials, load_server_credentials
from common.protocol.channel import TlsMaterial
from common.protocol.flower import identify
from common.protocol.payload import Payload
from common.protocol.round_notice import RoundNotice
from common.settings.recipe import LoraSettings, Server, Train
from server.notifications import NoticeBroadcaster, Notices
from server.rounds.loop import RoundLoop
from server.rounds.observer import Observers
from server.rounds.participants import RunModel
from server.rounds.run_settings import RunSettings
from server.run_folder import RunFolder
from server.storage.journal import Journal
from server.transport.authorization import RosterGuard
from server.transport.flower_messenger import FlowerMessenger
from server.transport.grid import GrpcGrid, NodeGuard
from server.transport.quota import NodeQuota

HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds for nodes to connect."""
DEADLINE = 300.0
"""Seconds for each reply in real rounds."""
MAX_RANK, MAX_WEIGHT = 64, 1000
BEGUN = Payload(RoundNotice(run="bench", round=0, parent="", adapter="", updates=[]).to_values())
"""Tells nodes that a run has begun, so that they obey requests of its round 1."""

Ranks = Mapping[str, int]
"""The rank of each node, by name."""


def make_project(folder: Path, names: Iterable[str] = ()) -> None:
    """Write an operator's keys to `keys` in a folder, and the keys of members of these names to `nodes`."""
    now = datetime.now(UTC)
    operator.init(folder / "keys", "bench", [HOST], now)
    for name in names:
        request = node_keys.join(folder / "nodes", name)
        invite = operator.admit(folder / "keys", request, MAX_RANK, MAX_WEIGHT, now)
        acceptance.accept(folder / "nodes", invite, None, lambda _: True)


@contextmanager
def serve_grid(folder: Path, spool: Path, told: Sequence[Payload] = (BEGUN,)) -> Iterator[GrpcGrid]:
    """Serve the grid of `fedlora server` in this process, with its roster, signatures, greeting and limits.

    Nodes that connect are told the roster, then `told`.
    """
    credentials, roster_guard = server_identity(folder)
    guard = NodeGuard(
        roster_guard.authorize_node,
        roster_guard.authorize_reply,
        lambda name: [Payload({}, roster_guard.signed_roster), *told],
        NodeQuota(),
    )
    with GrpcGrid(f"{HOST}:0", credentials, guard, spool) as grid:
        yield grid


def server_identity(folder: Path) -> tuple[ServerCredentials, RosterGuard]:
    """Return the server's credentials and its guard, from the keys of a project."""
    own = load_server_credentials(folder / "keys")
    return own, RosterGuard(folder / "keys", own.roster, own.roster_bytes, "examples")


def train_rounds(folder: Path, grid: GrpcGrid, journal: Journal, run: RunFolder, model: RunModel, rounds: int) -> None:
    """Run real rounds, of which the nodes are told, on a grid that greets with the roster alone."""
    own, roster_guard = server_identity(folder)
    notices = NoticeBroadcaster(grid, Notices(journal, roster_guard, own))
    settings = RunSettings(
        0, LoraSettings(), Train(rounds=rounds), Server(), "rounds"
    )  # another run than that of BEGUN
    messenger, observers = FlowerMessenger(grid, DEADLINE), Observers([run, notices])
    RoundLoop(messenger, settings, model, journal, observers, run.publisher("bench")).run()


@contextmanager
def connect_nodes(
    grid: GrpcGrid, folder: Path, processes: Sequence[Ranks], app: Callable[[], ClientApp]
) -> Iterator[None]:
    """Run processes with the nodes of these names, all connected, with an app each, while the block runs.

    Raises:
        TimeoutError: they do not connect.
    """
    with run_processes([(run_nodes, (folder, grid.port, ranks, app)) for ranks in processes]):
        await_nodes(grid, sum(map(len, processes)))
        yield


@contextmanager
def run_processes(works: Sequence[tuple[Callable[..., None], tuple[Any, ...]]]) -> Iterator[None]:
    """Run functions with their arguments, each in a new process that is ended with the block."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=work, args=arguments, daemon=True) for work, arguments in works]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def await_nodes(grid: GrpcGrid, count: int) -> None:
    """Wait until `count` nodes are connected.

    Raises:
        TimeoutError: they are not connected in time.
    """
    end = time.monotonic() + PATIENCE
    while (connected := len(grid.names())) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{connected} of {count} nodes connected in {PATIENCE:g} s")
        time.sleep(0.02)


def run_nodes(folder: Path, port: int, ranks: Ranks, app: Callable[[], ClientApp]) -> None:
    """Run these nodes until the process ends."""
    identify()
    for name, rank in ranks.items():
        own = load_node_credentials(folder / "nodes", name)
        Thread(target=link(port, own, name, rank, app, LogAuditor(folder / "nodes", own)).run).start()


def link(port: int, tls: TlsMaterial, name: str, rank: int, app: Callable[[], ClientApp], auditor: AnyAuditor) -> Link:
    """Make a node's connection to the server on this machine."""
    responder = Responder(app, Context(1, 2, {"node": name}, RecordDict(), {}), auditor)
    return Link(f"{HOST}:{port}", tls, rank, responder)
