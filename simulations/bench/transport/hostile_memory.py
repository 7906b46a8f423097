"""Growth of the server's resident memory under nodes of the roster that send more than was ordered.

Each attack is one round: an honest node and the hostile ones, each in another process, get an order of 10 kB that
states how many bytes a reply may have. The honest one sends back what it got. A hostile one sends a reply of the
attack's size, frame after frame, until the server ends the call; then it hangs up. A frame of 1 MiB of zeros takes 1 kB
of gzip; its order allows all 200 MiB, so that it is the compression that is refused.

`compare_announcement` is of a server with real rounds: a node announces in 1.3 kB 40 modules of 4,194,304 x 4,194,304
and replies to nothing else, and the honest node's update has to count in each round.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.network.audit import LogAuditor
from common.huggingface.model_description import MAX_DIMENSION, ModelDescription
from common.identity.credentials import load_node_credentials
from common.protocol.announcement import Announcement
from common.protocol.channel import INBOX, REPLY, REPLY_BYTES, SERVICE, NodeHello
from common.protocol.flower import identify
from common.protocol.frames import decode_message, encode_message
from common.protocol.payload import Payload
from server.rounds.participants import RunModel
from server.run_folder import RunFolder
from server.storage.journal import Journal
from server.transport.flower_messenger import FlowerMessenger
from server.transport.grid import GrpcGrid
from simulations.bench.measure import Comparison, peak_growth, require, run_in_fresh_process
from simulations.bench.transport.deployment import (
    HOST,
    await_nodes,
    connect_nodes,
    make_project,
    run_nodes,
    run_processes,
    serve_grid,
    train_rounds,
)
from simulations.bench.transport.exchange import DEADLINE, ROUND_ID
from simulations.bench.transport.synthetic import ROWS, described, echo, random_factors

HONEST, HOSTILE = "ada", ("mallory", "trudy")
BOUND = 32 * 2**20
ORDER = 10_000
"""Bytes that are sent with each order."""
TAKEN = "taken"
RANK, ROUNDS = 4, 2
SHAPES = {"layer": (64, 64)}
ANNOUNCED = 40
"""Modules that the hostile node announces."""


@dataclass(frozen=True)
class Attack:
    """A reply that must not be taken.

    Args:
        figure: its name in the table.
        size: bytes of its arrays.
        ordered: bytes of arrays that the order allows.
        refusal: what the hostile node is told.
        nodes: number of nodes that send it at once.
        compression: of the call.
    """

    figure: str
    size: int
    ordered: int
    refusal: str
    nodes: int = 1
    compression: grpc.Compression = grpc.Compression.NoCompression


ATTACKS = (
    Attack("a reply of 1,023 MB to an order of 10 kB", 1023 * 10**6, ORDER, "malformed"),
    Attack("two replies of 600 MB at once", 600 * 10**6, ORDER, "malformed", nodes=2),
    Attack(
        *("200 frames of 1 kB, gzip, 1 MiB each inflated", 200 * 2**20, 200 * 2**20),
        refusal="Compression algorithm 'gzip' is disabled.",
        compression=grpc.Compression.Gzip,
    ),
)


def measure() -> list[Comparison]:
    """Measure bytes, for each attack.

    Raises:
        GateError: the server took a hostile reply, refused it for another reason, or did not take the honest one.
    """
    with TemporaryDirectory() as scratch:
        make_project(Path(scratch), [HONEST, *HOSTILE])
        rows = [run_in_fresh_process(compare, Path(scratch), attack) for attack in ATTACKS]
        return [*rows, run_in_fresh_process(compare_announcement, Path(scratch))]


def compare(folder: Path, attack: Attack) -> Comparison:
    """Return the row of an attack; this process is the server.

    Raises:
        GateError: as for `measure`.
    """
    growth, counted, told = grow(folder, attack)
    gate = require(
        counted == 1 and told == {attack.refusal},
        f"{counted} of {1 + attack.nodes} replies count, the honest one; hostile nodes are told: {', '.join(told)}",
    )
    return Comparison(f"{attack.figure}: growth", growth, BOUND, "bytes", "the bound", at_most=1.0, gate=gate)


def grow(folder: Path, attack: Attack) -> tuple[int, int, set[str]]:
    """Return the growth in bytes, the number of replies that count, and what the hostile nodes were told."""
    counted = list[int]()
    with serve_grid(folder, folder) as grid, connect_nodes(grid, folder, [{HONEST: 1}], echo):
        _count_replies(grid, ORDER)  # so that the figure has no first round in it
        with _hostile(folder, grid, attack) as ends:
            growth = peak_growth(lambda: counted.append(_count_replies(grid, attack.ordered)))
            return growth, counted[0], {end.recv() for end in ends}


def _count_replies(grid: GrpcGrid, ordered: int) -> int:
    """Send an order to each connected node; return the number of replies that count."""
    messenger = FlowerMessenger(grid, DEADLINE)
    order = Payload(ROUND_ID | {REPLY_BYTES: ordered}, bytes(ORDER))
    replies = messenger.request("train", dict.fromkeys(messenger.nodes(), order), 1)
    return sum(isinstance(reply, Payload) for _, reply in replies)


@contextmanager
def _hostile(folder: Path, grid: GrpcGrid, attack: Attack) -> Iterator[list[Connection]]:
    """Connect hostile nodes, each in a process; each pipe says what its node is told."""
    pipes = {name: Pipe(duplex=False) for name in HOSTILE[: attack.nodes]}
    works = [(send_too_much, (folder, grid.port, name, attack, end)) for name, (_, end) in pipes.items()]
    with run_processes(works):
        await_nodes(grid, 1 + attack.nodes)
        yield [end for end, _ in pipes.values()]


def send_too_much(folder: Path, port: int, name: str, attack: Attack, end: Connection) -> None:
    """Reply to the first order as the hostile node of this name, and say how the server ends the call."""
    identify()
    own = load_node_credentials(folder / "nodes", name)
    tls = grpc.ssl_channel_credentials(own.ca_pem, own.key_pem, own.certificate_pem)
    with grpc.secure_channel(f"{HOST}:{port}", tls, [("grpc.enable_http_proxy", 0)]) as channel:
        stream = channel.unary_stream(f"/{SERVICE}/{INBOX}")(NodeHello(1).to_json())
        messages = (decode_message(first, stream, 2**30) for first in stream)
        asked = next(message for message in messages if message.metadata.message_type == "train")
        sent = Payload(ROUND_ID, bytes(attack.size))
        signed = Payload(ROUND_ID | LogAuditor(folder / "nodes", own).sign(sent), sent.blob)
        frames = encode_message(Message(signed.to_records(), reply_to=asked))
        try:
            channel.stream_unary(f"/{SERVICE}/{REPLY}")(frames, compression=attack.compression)
            end.send(TAKEN)
        except grpc.RpcError as error:
            end.send(error.details())


def compare_announcement(folder: Path, modules: int = ANNOUNCED, size: int = MAX_DIMENSION) -> Comparison:
    """Return the row of an announcement; this process is the server.

    Raises:
        GateError: an update of the honest node did not count.
    """
    run, ranks = RunFolder(folder / "run"), {HONEST: RANK}
    run.path.mkdir()
    with (
        Journal.open(run.journal) as journal,
        serve_grid(folder, run.journal, told=()) as grid,
        connect_nodes(grid, folder, [ranks], partial(random_factors, SHAPES, ranks)),
        run_processes([(run_nodes, (folder, grid.port, {HOSTILE[0]: RANK}, partial(announce, modules, size)))]),
    ):
        await_nodes(grid, 2)
        model = RunModel(described(SHAPES), RANK)
        growth = peak_growth(partial(train_rounds, folder, grid, journal, run, model, ROUNDS))
        clients = [client for entry in journal.entries[1:] for client in entry["metrics"]["clients"]]
    counted = sum(client["name"] == HONEST and client["status"] == "ok" for client in clients)
    gate = require(counted == ROUNDS, f"the honest update counts in {counted} of {ROUNDS} rounds")
    figure = f"{modules} modules of {size:,} x {size:,} announced: growth"
    return Comparison(figure, growth, BOUND, "bytes", "the bound", at_most=1.0, gate=gate)


def announce(modules: int, size: int) -> ClientApp:
    """Return an app that announces this many square modules of another base, and cannot train them."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        shapes = {f"m{number}": (size, size) for number in range(modules)}
        model = ModelDescription("!", "classification", shapes)
        own = Announcement(str(context.node_config["node"]), RANK, ROWS, model)
        return Message(Payload(own.to_values()).to_records(), reply_to=message)

    return app
