"""A probe that finds why a node cannot reach its server, with the standard library: gRPC hides most causes.

One TLS connection is opened and closed before gRPC opens its own.
"""

import secrets
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from client.network import diagnosis
from client.network.dial import Deadline, dial
from client.network.proxy import tunnel
from common.errors import ConfigError, TransportError
from common.protocol.channel import TlsMaterial

TIMEOUT = 3.5
"""Seconds for all steps: the name look-up, the connection, a proxy, the TLS handshake and the first byte."""


class Unreachable(TransportError):
    """The server cannot be reached now; a later attempt may succeed."""


class Untrusted(TransportError):
    """What answers at the server's address cannot prove that it is the server, or does not believe this node.

    A captive portal, TLS inspection, a wrong clock or an expired certificate may pass.
    """


def host_and_port(server: str) -> tuple[str, int]:
    """Split `fed.example.org:8443` or `[::1]:8443` into host and port.

    Raises:
        ConfigError: it has another form.
    """
    try:
        parts = urlsplit(f"//{server}")
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as TLS and the look-up of the name will
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != server or "@" in server:
        raise ConfigError(f'server = "{server}": write a host and a port, as in "fed.example.org:8443"')
    return host, port


def probe(server: str, tls: TlsMaterial, proxy: str | None) -> None:
    """Check that the server answers, proves its identity, and accepts this node's certificate.

    Raises:
        Unreachable: it does not answer.
        Untrusted: one of the two cannot prove its identity now.
        TransportError: this node's certificate is not its project's; another attempt would not help.
    """
    if cause := diagnosis.explain_node_certificate(tls):
        raise TransportError(cause)
    if cause := diagnosis.explain_node_dates(tls):
        raise Untrusted(cause)
    host, _ = host_and_port(server)
    context, deadline, way = _context(tls), Deadline(TIMEOUT), urlsplit(proxy) if proxy else None
    named = f"{server} through the proxy {way.hostname}:{way.port}" if way else server
    with _dial(server, way, deadline) as connection, _as_unreachable(named), _explain_distrust(server):
        if way:
            tunnel(connection, server, way, deadline)
        connection.settimeout(deadline.seconds_left())
        with context.wrap_socket(connection, server_hostname=host) as secured:
            shown = secured.getpeercert(binary_form=True) or b""
            if cause := diagnosis.explain_shown_certificate(shown, server, host):
                raise Untrusted(cause)
            secured.settimeout(deadline.seconds_left())
            if not secured.recv(1):  # Our server sends first, after it has checked this certificate.
                raise Unreachable(
                    f"{server} hung up after the TLS handshake: it is stopping, or by its clock this node's "
                    "certificate is not valid"
                )


def _dial(server: str, proxy: SplitResult | None, deadline: Deadline) -> socket.socket:
    """Open a connection to the server, or to the proxy in front of it."""
    if proxy is None:
        with _as_unreachable(server):
            return dial(*host_and_port(server), deadline)
    with _as_unreachable(f"the proxy {proxy.hostname}:{proxy.port} that https_proxy names", "is it the right one?"):
        return dial(proxy.hostname or "", proxy.port or 0, deadline)


def _context(tls: TlsMaterial) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=tls.ca_pem.decode())
    with NamedTemporaryFile() as file:  # ssl reads keys only from files; a random password protects this one.
        password = secrets.token_hex(32).encode()
        key = load_pem_private_key(tls.key_pem, None)
        sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
        file.write(tls.certificate_pem + sealed)
        file.flush()
        context.load_cert_chain(file.name, password=password)
    return context


@contextmanager
def _as_unreachable(way: str, question: str = "has the server been started?") -> Iterator[None]:
    """Turn network errors in the block into Unreachable, with the cause."""
    try:
        yield
    except TimeoutError:
        raise Unreachable(
            f"{way} does not answer within {TIMEOUT:g} s; is it the right address, and does a firewall let it through?"
        ) from None
    except socket.gaierror as error:
        raise Unreachable(
            f"the name of {way} cannot be looked up: {error.strerror}; is it spelled correctly?"
        ) from error
    except ConnectionRefusedError:
        raise Unreachable(f"nothing listens at {way}; {question}") from None
    except OSError as error:
        raise Unreachable(f"{way}: {error.strerror or error}") from error


@contextmanager
def _explain_distrust(server: str) -> Iterator[None]:
    """Turn TLS errors in the block into Untrusted or Unreachable, with the cause."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(diagnosis.explain_server_certificate(error, server)) from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise Unreachable(f"{server} hung up in the TLS handshake") from error
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "certificate" in reason or "unknown ca" in reason:
            raise Untrusted(f"{server} does not accept this node's certificate ({reason})") from error
        if "alert" in reason or "unrecognized name" in reason:
            raise Unreachable(f"{server} broke off the TLS handshake ({reason})") from error
        raise Untrusted(f"{server} does not speak TLS ({reason}); is this the port of fedlora server?") from error
