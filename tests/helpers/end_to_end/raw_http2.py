"""Calls of gRPC, and answers to them, written byte by byte: they may say of their compression what gRPC never would."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from common.protocol.channel import SERVICE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, WINDOW = 0, 1, 3, 4, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def http2_frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    """Return a frame (RFC 9113, section 4.1)."""
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


def header_block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return literal fields, not indexed and not compressed (RFC 7541, section 6.2.2); each shorter than 127 bytes.

    A value may have any bytes, those that are not UTF-8 as surrogates.
    """
    plain = ((name.encode(), value.encode(errors="surrogateescape")) for name, value in fields)
    return b"".join(bytes([0, len(name)]) + name + bytes([len(value)]) + value for name, value in plain)


def grpc_message(data: bytes, flag: int = 0) -> bytes:
    """Return a message with its compression flag."""
    return bytes([flag]) + struct.pack(">I", len(data)) + data


class RawCalls:
    """A node's connection, on a TLS socket that has agreed on HTTP/2."""

    def __init__(self, peer: ssl.SSLSocket) -> None:
        self._peer, self._heard, self._next = peer, b"", 1
        window = struct.pack(">HI", 4, 2**31 - 1)
        peer.sendall(PREFACE + http2_frame(SETTINGS, 0, 0, window) + http2_frame(WINDOW, 0, 0, bytes([63, 0, 0, 0])))

    def close(self) -> None:
        """Hang up."""
        self._peer.close()

    def call(self, path: str, body: bytes, encoding: str | None = None, last: bool = True, **metadata: str) -> int:
        """Begin a call with these bytes, which fit into the windows of a new connection; return its stream."""
        stream, self._next = self._next, self._next + 2
        fields = {":method": "POST", ":scheme": "https", ":path": path, ":authority": "localhost"}
        fields |= {"te": "trailers", "content-type": "application/grpc"}
        fields |= ({"grpc-encoding": encoding} if encoding else {}) | metadata
        self._peer.sendall(http2_frame(HEADERS, END_HEADERS, stream, header_block(fields.items())))
        chunks = [body[at : at + 2**14] for at in range(0, len(body), 2**14)]
        for chunk in chunks:
            self._peer.sendall(http2_frame(DATA, END_STREAM if last and chunk is chunks[-1] else 0, stream, chunk))
        return stream

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self._peer.sendall(http2_frame(RESET, 0, stream, struct.pack(">I", 8)))

    def heard(self, stream: int, seconds: float = 10.0) -> bytes:
        """Return what the server says on this stream until it ends; data and headers as they are."""
        end, said = time.monotonic() + seconds, b""
        while time.monotonic() < end:
            while len(self._heard) >= 9 and len(self._heard) >= (size := 9 + int.from_bytes(self._heard[:3])):
                frame, self._heard = self._heard[:size], self._heard[size:]
                kind, flags, number = frame[3], frame[4], int.from_bytes(frame[5:9])
                if kind == SETTINGS and not flags & ACK:
                    self._peer.sendall(http2_frame(SETTINGS, ACK, 0))
                if number == stream and kind in (DATA, HEADERS, RESET):
                    said += frame[9:]
                    if kind == RESET or flags & END_STREAM:
                        return said
            with suppress(TimeoutError):
                self._peer.settimeout(0.05)
                if not (more := self._peer.recv(2**16)):
                    return said
                self._heard += more
        raise AssertionError(f"stream {stream} did not end: {said!r}")


@contextmanager
def raw_server(context: ssl.SSLContext, body: bytes, encoding: str | None, **metadata: str) -> Iterator[int]:
    """Yield the port of a server that answers the first call of each connection with these bytes and metadata."""
    fields = {":status": "200", "content-type": "application/grpc"} | ({"grpc-encoding": encoding} if encoding else {})
    block = header_block((fields | metadata).items())
    answer = http2_frame(HEADERS, END_HEADERS, 1, block) + http2_frame(DATA, 0, 1, body)

    def serve(peer: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(peer, server_side=True) as secured:
            secured.sendall(http2_frame(SETTINGS, 0, 0))
            heard = b""
            while more := secured.recv(2**16):
                heard += more
                if f"/{SERVICE}/".encode() in heard:
                    secured.sendall(http2_frame(SETTINGS, ACK, 0) + answer)
                    heard = b""

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
