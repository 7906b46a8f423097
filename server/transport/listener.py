"""gRPC servers in a thread with its own event loop: one for nodes, and a health service on loopback."""

import asyncio
import resource
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME
from grpc_health.v1.health import aio as health

from common.errors import TransportError
from common.protocol.channel import CHANNEL, SERVICE, TlsMaterial
from server.transport.door.faults import faults_in_one_line
from server.transport.door.methods import make_server
from server.transport.door.places import Door
from server.transport.door.refusals import RefusalLog
from server.transport.service import Service

_CHANNEL = (
    *CHANNEL,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # Nodes ping more often than gRPC allows by default.
    ("grpc.max_concurrent_streams", 8),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),  # A second server on the same port fails.
    ("grpc.http2.bdp_probe", 0),  # It would let each node's window, and so memory, grow to 20 MiB and more.
    ("grpc.http2.lookahead_bytes", 2 * 2**20),
)
_GRACE = 2.0
"""Seconds for calls to end when the server stops."""
_CALM, _PRESSED = 0.1, 0.01
"""Seconds between two looks at who holds the places, and at what the log has still to say."""


class Listener:
    """Serves nodes from its creation until `close`.

    Args:
        address: host and port; port 0 takes a free one, which `port` then contains.
        tls: the server's certificate, its key, and the authority of the nodes: a peer without a certificate of that
            authority fails in the TLS handshake.
        service: has the methods that nodes call.
        door: looks after the connections while it serves.
        refusals: summed in the log meanwhile.
        health_port: of gRPC's health service on 127.0.0.1, without TLS; 0 takes a free one, None starts none.

    Raises:
        TransportError: it cannot listen there.
    """

    def __init__(
        self,
        address: str,
        tls: TlsMaterial,
        service: Service,
        door: Door,
        refusals: RefusalLog,
        health_port: int | None,
    ) -> None:
        self._service, self._door, self._refusals = service, door, refusals
        self._stopped: Future[None] = Future()
        started: Future[tuple[asyncio.AbstractEventLoop, int, int | None]] = Future()
        serving = self._serve(address, tls, health_port, started)
        self._thread = Thread(target=asyncio.run, args=(serving,), name="grid")
        self._thread.start()
        self._loop, self.port, self.health_port = started.result()

    @property
    def is_running(self) -> bool:
        """True until `close` is called."""
        return not self._stopped.done()

    def call_soon(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the thread of the event loop."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def close(self) -> None:
        """Give calls a short time to end, then stop; to be called once."""
        self._stopped.set_result(None)
        self._thread.join()

    async def _serve(
        self,
        address: str,
        tls: TlsMaterial,
        health_port: int | None,
        started: Future[tuple[asyncio.AbstractEventLoop, int, int | None]],
    ) -> None:
        most = ("grpc.max_allowed_incoming_connections", connection_limit())
        service = self._service
        servers = [make_server(SERVICE, service.methods(), service.refuse, (*_CHANNEL, most))]
        watch: asyncio.Future[None] | None = None
        try:
            port = _bind(address, lambda: servers[0].add_secure_port(address, _credentials(tls)))
            if health_port is not None:
                health_server, health_port = await _health_server(health_port)
                servers.append(health_server)
            for server in servers:
                await server.start()
            watch = asyncio.ensure_future(self._watch(port))
            started.set_result((asyncio.get_running_loop(), port, health_port))
            await asyncio.wrap_future(self._stopped)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)  # `__init__` waits for it, in another thread, and raises it
        finally:
            await asyncio.gather(*(server.stop(_GRACE) for server in servers))
            if watch:
                watch.cancel()
            self._refusals.sum_up(all_kinds=True)

    async def _watch(self, port: int) -> None:
        with faults_in_one_line(self._refusals):
            while True:
                self._door.look(port)
                self._refusals.sum_up()
                await asyncio.sleep(_PRESSED if self._door.is_pressed else _CALM)


def _bind(address: str, add_port: Callable[[], int]) -> int:
    try:
        return add_port()
    except RuntimeError as error:
        raise TransportError(
            f"cannot listen at {address}: another process does, or this machine has no such address; choose another"
        ) from error


def _credentials(tls: TlsMaterial) -> grpc.ServerCredentials:
    pair = tls.key_pem, tls.certificate_pem
    return grpc.ssl_server_credentials([pair], root_certificates=tls.ca_pem, require_client_auth=True)


async def _health_server(port: int) -> tuple[grpc.aio.Server, int]:
    server, servicer, address = (
        make_server(SERVICE_NAME, {}, _unknown, ()),
        health.HealthServicer(),
        f"127.0.0.1:{port}",
    )
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    bound = _bind(address, lambda: server.add_insecure_port(address))
    for name in ("", SERVICE):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server, bound


async def _unknown(context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "method")


_MOST = 10**6


def raise_open_file_limit() -> int:
    """Raise this process's limit of open files to the most that the system allows, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:  # macOS reports this, but does not accept it as a limit
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def connection_limit() -> int:
    """Return the number of open files that may be connections: strangers must not use up what the journal needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(soft * 3 // 4, _MOST)
