"""A round beside strangers that hold connections open, against the same round without them.

From another process come 500 connections whose TLS handshake is never finished (half of them silent, half after three
bytes of it), a client that sends its TLS hello one byte every 0.1 s, and a member that, within TLS, does so with the
first bytes of HTTP/2. The round is the empty one of `exchange` with two nodes. Figures are medians of 40 rounds each,
in turns of 20, a twentieth of a second apart; beside the strangers a round may take 5 ms longer, which is noise here.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread

from server.transport.flower_messenger import FlowerMessenger
from server.transport.listener import raise_open_file_limit
from simulations.bench.measure import Comparison, require, run_in_fresh_process
from simulations.bench.transport.deployment import connect_nodes, make_project, run_processes, serve_grid
from simulations.bench.transport.exchange import NODES, request_replies
from simulations.bench.transport.sockets import PREFACE, client_hello, plain_socket, tls_socket
from simulations.bench.transport.synthetic import echo

HALF_OPEN = 500
ROUNDS, TURNS = 20, 2
PAUSE, SLOW = 0.05, 0.1
ALLOWED = 0.005
DEADLINE = 60.0
SLOW_MEMBER = "slow"


def measure() -> list[Comparison]:
    """Measure seconds.

    Raises:
        GateError: the server dropped a stranger before the rounds were over, or a node did not answer.
    """
    with TemporaryDirectory() as scratch:
        make_project(Path(scratch), [*NODES, SLOW_MEMBER])
        return [run_in_fresh_process(compare, Path(scratch), HALF_OPEN, ROUNDS)]


def compare(folder: Path, half_open: int, rounds: int) -> Comparison:
    """Return the row for `half_open` connections; this process is the server."""
    raise_open_file_limit()
    calm, besieged = list[float](), list[float]()
    standing = []
    with serve_grid(folder, folder) as grid, connect_nodes(grid, folder, [{name: 1} for name in NODES], echo):
        messenger = FlowerMessenger(grid, DEADLINE)
        for _ in range(TURNS):
            calm += _seconds(messenger, rounds)
            with _siege(grid.port, folder, half_open) as count:
                besieged += _seconds(messenger, rounds)
                standing.append(count())
    least = min(standing)
    gate = require(
        least == (half_open, 2), f"{least[0]} half-open connections and {least[1]} slow clients stand after the rounds"
    )
    figure, peer = f"empty round beside {half_open} half-open connections", f"without them, + {1e3 * ALLOWED:g} ms"
    return Comparison(figure, median(besieged), median(calm) + ALLOWED, "s", peer, at_most=1.0, gate=gate)


def _seconds(messenger: FlowerMessenger, rounds: int) -> Iterator[float]:
    for _ in range(rounds):
        began = time.perf_counter()
        answers = request_replies(messenger)
        yield time.perf_counter() - began
        require(len(answers) == len(NODES), "every node answers in every round")
        time.sleep(PAUSE)


@contextmanager
def _siege(port: int, folder: Path, half_open: int) -> Iterator[Callable[[], tuple[int, int]]]:
    """Let strangers hold connections while the block runs; the function counts the half-open and the slow ones."""
    here, there = Pipe()
    with run_processes([(_besiege, (there, port, folder, half_open))]):
        there.close()  # so that the pipe ends with the other process
        here.recv()
        yield partial(_asked_for, here)


def _asked_for(pipe: Connection) -> tuple[int, int]:
    pipe.send(None)
    half_open, slow = pipe.recv()
    return half_open, slow


def _besiege(pipe: Connection, port: int, folder: Path, half_open: int) -> None:
    raise_open_file_limit()
    held, hello = [plain_socket(port) for _ in range(half_open)], client_hello()
    for each in held[::2]:
        each.sendall(hello[:3])
    slow = [Thread(target=_trickle, args=(plain_socket(port), hello), daemon=True)]
    slow.append(Thread(target=_trickle, args=(tls_socket(port, folder, SLOW_MEMBER), PREFACE), daemon=True))
    for thread in slow:
        thread.start()
    pipe.send(None)
    pipe.recv()
    pipe.send((sum(map(_stands, held)), sum(thread.is_alive() for thread in slow)))
    pipe.recv()  # The process ends with the block.


def _trickle(peer: socket.socket, data: bytes) -> None:
    for byte in data:
        peer.sendall(bytes([byte]))
        time.sleep(SLOW)


def _stands(peer: socket.socket) -> bool:
    """Return whether the other side has neither closed the connection nor sent anything."""
    peer.setblocking(False)
    try:
        peer.recv(1)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
