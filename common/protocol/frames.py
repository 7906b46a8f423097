"""Flower message <-> frames of at most 1 MiB.

    first frame    u32, little-endian: bytes of the header; the header, with the size of each array
    other frames   array after array, each in full frames and a last one with the rest

There is one way to cut a message into frames, so a frame of any other length is rejected as it arrives.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import IO, Any

from flwr.app import Message

from common.errors import TransportError
from common.protocol.channel import FRAME
from common.protocol.message_header import MessageHeader, message_arrays, read_header, write_header

_PREFIX = 4


def encode_message(message: Message) -> Iterator[bytes]:
    """Return the frames of a message; its arrays are cut on demand and not copied before.

    Raises:
        TransportError: everything but the arrays takes more than one frame.
    """
    head = write_header(message)
    if len(head) + _PREFIX > FRAME:
        raise TransportError(f"a message's plain values take {len(head)} bytes, which is more than one frame")
    return chain([len(head).to_bytes(_PREFIX, "little") + head], _split(message_arrays(message)))


def _split(blobs: Iterable[bytes]) -> Iterator[bytes]:
    for blob in blobs:
        view = memoryview(blob)
        yield from (bytes(view[start : start + FRAME]) for start in range(0, len(view), FRAME))


def read_first_frame(first: bytes, limit: int | None = None) -> MessageHeader:
    """Read the header in the first frame of a message; without a limit, its arrays may take any number of bytes.

    Raises:
        TransportError: it is malformed, or its arrays take more bytes than the limit.
    """
    if int.from_bytes(first[:_PREFIX], "little") != len(first) - _PREFIX:
        raise TransportError("the length of a first frame differs from the length that it states")
    return read_header(first[_PREFIX:], limit)


class GrowingBuffer(io.BytesIO):
    """Memory for a message: room for a quarter more than has come, and never for more than `size`, which is a claim."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._room = size, 0

    def write(self, frame: Any) -> int:
        """Write a frame after those before it."""
        place = self.tell()
        if (end := place + len(frame)) > self._room:
            room = end + end // 4
            self._room = room if room * 5 < self._size * 4 else self._size  # The last step is not a small one.
            self.seek(self._room - 1)
            super().write(b"\0")
            self.seek(place)
        return super().write(frame)


class IncomingMessage:
    """A message that arrives frame by frame.

    Args:
        head: the header in its first frame.
        store: makes a buffer of this size, in which the bytes wait for the last frame.

    Its `left` is the number of bytes that are still to come.
    """

    def __init__(self, head: MessageHeader, store: Callable[[int], IO[bytes]] = GrowingBuffer) -> None:
        self._head, self._store = head, store(head.size)
        self.left = head.size
        self._lengths = _lengths(size for _, size in head.arrays)

    def add(self, frame: bytes) -> None:
        """Take the next frame.

        Raises:
            TransportError: it has another length than the next frame must have, or no frame is expected.
        """
        if len(frame) != next(self._lengths, None):
            raise TransportError(f"a frame of {len(frame)} bytes where {self.left} more are expected")
        self._store.write(frame)
        self.left -= len(frame)

    def finish(self) -> Message:
        """Return the message once all its frames have come; call it once."""
        with self._store as store:
            if isinstance(store, io.BytesIO):
                store.getvalue()  # Gives back what it has in excess, so that all of it is read without a copy.
            store.seek(0)
            for array, size in self._head.arrays:
                array.data = store.read(size)
        return self._head.message

    def discard(self) -> None:
        """Discard the bytes that came so far."""
        self._store.close()


def _lengths(sizes: Iterable[int]) -> Iterator[int]:
    for size in sizes:
        yield from (min(FRAME, size - start) for start in range(0, size, FRAME))


def decode_message(first: bytes, others: Iterator[bytes], limit: int) -> Message:
    """Decode the message that begins with this frame; take no more of the other frames than it needs.

    Raises:
        TransportError: a frame is malformed or missing, or the arrays take more bytes than the limit.
    """
    incoming = IncomingMessage(read_first_frame(first, limit))
    while incoming.left:
        incoming.add(next(others, b""))
    return incoming.finish()
