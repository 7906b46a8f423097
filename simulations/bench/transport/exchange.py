"""Cost of the transport alone: rounds of two nodes in separate processes that compute nothing, over mutual TLS.

A round here is one `train` payload to each node and the reply of each, with all work of the server on both except
decoding: frames, roster, signature, spool. A node sends back what it got, signed.

The empty round has no factors. In the large one 64 MiB go down to and come up from each node; alternating with it, the
same 256 MiB go once from another process to this one through a TLS socket of the standard library. The journal is off;
a separate row shows what it would add: a commit of the 128 MiB that came up (64 MiB of factors in float64), fsync
included.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import encode_adapter
from common.protocol.channel import REPLY_BYTES
from common.protocol.payload import Payload
from server.algorithms.state import State
from server.storage.journal import Journal
from server.transport.flower_messenger import FlowerMessenger
from simulations.bench.measure import Comparison, require, run_in_fresh_process, time_in_turn
from simulations.bench.transport.deployment import connect_nodes, make_project, serve_grid
from simulations.bench.transport.sockets import tls_copy
from simulations.bench.transport.synthetic import echo

NODES = ("ada", "bob")
MODULES, SIZE, RANK = 1024, 1024, 8
"""64 MiB of factors."""
EMPTY_ROUNDS, LARGE_ROUNDS = 30, 5
EMPTY_BOUND, COPIES = 0.1, 3.0
DEADLINE = 60.0
ROUND_ID = {"run": "bench", "round": 1, "parent": "", "base": "bench", "attempt": 1}


def measure() -> list[Comparison]:
    """Measure median seconds of rounds.

    Raises:
        GateError: a node did not send back what it got.
    """
    with TemporaryDirectory() as scratch:
        make_project(Path(scratch), NODES)
        seconds, gate = run_in_fresh_process(time_rounds, Path(scratch), MODULES, (EMPTY_ROUNDS, LARGE_ROUNDS))
    empty, large, copy, commit = (seconds[name] for name in ("empty", "large", "copy", "commit"))
    size = MODULES * SIZE * RANK * 8 // 2**20
    round_ = f"{size} MiB each way, two nodes"
    return [
        Comparison("empty round, two nodes", empty, EMPTY_BOUND, "s", "the bound", at_most=1.0, gate=gate),
        Comparison(round_, large, copy, "s", f"one TLS copy of {4 * size} MiB", at_most=COPIES, gate=gate),
        Comparison(f"a commit of {2 * size} MiB, with fsync", commit, large, "s", f"{round_}, without it"),
    ]


def time_rounds(folder: Path, modules: int, repetitions: tuple[int, int]) -> tuple[dict[str, float], str]:
    """Return median seconds of each work, and the gate; this process is the server.

    Args:
        folder: contains the keys of a project.
        modules: number of modules of the factors.
        repetitions: of the empty round, and of all others.
    """
    factors = _factors(modules)
    blob = encode_adapter(factors)
    with (
        serve_grid(folder, folder) as grid,
        connect_nodes(grid, folder, [{name: RANK} for name in NODES], echo),
        tls_copy(folder / "keys", 4 * len(blob)) as copy,
        Journal.open(folder / "journal") as journal,
    ):
        ask = partial(request_replies, FlowerMessenger(grid, DEADLINE))
        gate = require(ask(blob) == [blob] * len(NODES), f"{len(NODES)} nodes send back each bit of {len(blob)} bytes")
        large: dict[str, Callable[[], object]] = {
            "large": partial(ask, blob),
            "copy": copy,
            "commit": _commits(journal, factors),
        }
        return time_in_turn({"empty": ask}, repetitions[0]) | time_in_turn(large, repetitions[1]), gate


def request_replies(messenger: FlowerMessenger, blob: bytes = b"") -> list[bytes]:
    """Return the replies of the connected nodes to these bytes."""
    replies = messenger.request(
        "train", dict.fromkeys(messenger.nodes(), Payload(ROUND_ID | {REPLY_BYTES: len(blob)}, blob)), 1
    )
    return [reply.blob for _, reply in replies if isinstance(reply, Payload)]


def _factors(modules: int) -> Adapter:
    draws = np.random.default_rng(0)
    pairs = (draws.standard_normal((2, RANK * SIZE), np.float32) for _ in range(modules))
    return Adapter({f"{i:04}": Factors(a.reshape(RANK, SIZE), b.reshape(SIZE, RANK)) for i, (a, b) in enumerate(pairs)})


def _commits(journal: Journal, factors: Adapter) -> Callable[[], None]:
    """Return a function that commits the next round at each call."""
    numbers = count()
    return lambda: journal.commit(State(next(numbers), {"global": factors}), {})
