"""Resident memory that 200 MiB from a stranger cost the server, and the bytes that a stranger gets back: none.

A stranger connects and sends until the server closes the connection, then connects again, until the system has accepted
200 MiB from it: raw bytes that begin like a TLS record, or, within TLS, zeros, without a certificate or with one of
another project's authority. Two nodes are connected, and answer before and after.

Bytes that come back are counted after decryption, without TLS alerts, on these connections and on one that opens HTTP/2
correctly and then listens. As the control, a member receives something there.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from server.transport.flower_messenger import FlowerMessenger
from simulations.bench.measure import Comparison, peak_growth, require, run_in_fresh_process
from simulations.bench.transport.deployment import connect_nodes, make_project, serve_grid
from simulations.bench.transport.exchange import NODES, request_replies
from simulations.bench.transport.sockets import PREFACE, plain_socket, tls_socket
from simulations.bench.transport.synthetic import echo

SIZE = 200 * 2**20
BOUND = 16 * 2**20
CHUNK = 2**16
PATIENCE = 60.0
"""Seconds for all bytes of one stranger, and for a round."""
MEMBER, OTHER = NODES[0], "mallory"
_RECORD = b"\x16\x03\x01\x3f\xff"
"""The start of a TLS record of 16 KiB with a part of a handshake."""
_ALERT = b"\x15\x03"

Dial = Callable[[], socket.socket]


def measure() -> list[Comparison]:
    """Measure bytes, for each kind of stranger.

    Raises:
        GateError: one got a byte or could not send all of its bytes, a member got none, or a node did not answer.
    """
    with TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch) / "ours", Path(scratch) / "theirs"
        make_project(ours, NODES)
        make_project(theirs, [OTHER])
        return run_in_fresh_process(compare, ours, theirs, SIZE)


def compare(ours: Path, theirs: Path, size: int) -> list[Comparison]:
    """Return the rows for strangers that send `size` bytes; this process is the server of the project in `ours`."""
    with serve_grid(ours, ours) as grid, connect_nodes(grid, ours, [{name: 1} for name in NODES], echo):
        ask = partial(request_replies, FlowerMessenger(grid, PATIENCE))
        require(len(ask()) == len(NODES), "the nodes answer before the strangers come")
        heard = run_in_fresh_process(listen, partial(tls_socket, grid.port, ours, MEMBER))
        rows = [
            _row("raw", partial(plain_socket, grid.port), size, heard),
            _row("no certificate", partial(tls_socket, grid.port), size, heard),
            _row("another authority's", partial(tls_socket, grid.port, theirs, OTHER), size, heard),
        ]
        require(len(ask()) == len(NODES), "the nodes answer after the strangers came")
        return rows


def _row(kind: str, dial: Dial, size: int, member: int) -> Comparison:
    got = run_in_fresh_process(listen, dial)
    floods: list[tuple[int, int]] = []
    growth = peak_growth(lambda: floods.append(run_in_fresh_process(flood, dial, size)))
    ((sent, back),) = floods
    gate = require(
        sent >= size and got + back == 0 < member,
        f"a stranger ({kind}) sent {sent / 2**20:.0f} MiB and got {got + back} bytes; a member got {member}",
    )
    figure = f"{size / 2**20:.0f} MiB from a stranger, {kind}: growth"
    return Comparison(figure, growth, BOUND, "bytes", "the bound", at_most=1.0, gate=gate)


def listen(dial: Dial) -> int:
    """Return the number of bytes that come back after opening HTTP/2 and waiting."""
    with suppress(OSError), dial() as peer:
        with suppress(OSError):
            peer.sendall(PREFACE)
        return _listen_until_closed(peer)
    return 0


def flood(dial: Dial, size: int) -> tuple[int, int]:
    """Return the number of bytes sent, `size` or more unless time runs out, and the number that came back."""
    sent = back = 0
    end = time.monotonic() + PATIENCE
    while sent < size and time.monotonic() < end:
        with suppress(OSError), dial() as peer:
            sent += _pour(peer, size - sent)
            back += _listen_until_closed(peer)
    return sent, back


def _pour(peer: socket.socket, most: int) -> int:
    sent, zeros = 0, bytes(CHUNK)
    with suppress(OSError):
        sent += peer.send(_RECORD)
        while sent < most:
            sent += peer.send(zeros)
    return sent


def _listen_until_closed(peer: socket.socket) -> int:
    heard = 0
    with suppress(OSError):
        while data := peer.recv(CHUNK):
            heard += 0 if data.startswith(_ALERT) else len(data)
    return heard
