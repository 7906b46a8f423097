"""Peers without gRPC, and what a server gives to them."""

import socket
import ssl

HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
"""First bytes of a gRPC client."""


def tls(pems=None, version=None, tmp_path=None) -> ssl.SSLContext:
    """Make a client context that trusts any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if version:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = version, version
    if pems:
        (tmp_path / "pair.pem").write_bytes(pems.certificate_pem + pems.key_pem)
        context.load_cert_chain(tmp_path / "pair.pem")
    return context


def bytes_given(port: int, context: ssl.SSLContext) -> bytes:
    """Return the bytes that a server sends to this peer, within TLS, in answer to the opening of HTTP/2."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(raw) as secured:
            secured.sendall(HTTP2)
            return secured.recv(1000)
    except (ssl.SSLError, ConnectionError):
        return b""


def plain_bytes_given(port: int) -> bytes:
    """Return the bytes that a server sends to a peer without TLS, except a TLS alert."""
    with socket.create_connection(("127.0.0.1", port), 10) as raw:
        raw.sendall(HTTP2)
        try:
            answer = raw.recv(1000)
        except ConnectionError:
            return b""
    return answer if answer[:1] != b"\x15" else b""
