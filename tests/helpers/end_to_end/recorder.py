"""`fedlora server FILE`, which also writes down what its nodes send: python -m tests.recorder FILE RECORD."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import fedlora
from server.transport.service import Service


def record(take: Callable[[bytes], object]) -> None:
    """From now on give each frame, and all metadata of the calls, to `take` before the server sees them."""
    opened, replied = Service._open, Service._reply

    async def taken(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for frame in frames:
            take(frame)
            yield frame

    async def open_(self: Service, hello: AsyncIterator[bytes], context: Any) -> None:
        take(repr(context.invocation_metadata()).encode())
        await opened(self, taken(hello), context)

    async def reply(self: Service, frames: AsyncIterator[bytes], context: Any) -> bytes:
        take(repr(context.invocation_metadata()).encode())
        return await replied(self, taken(frames), context)

    Service._open, Service._reply = open_, reply  # type: ignore[method-assign]


if __name__ == "__main__":
    _, file, received = sys.argv
    sys.argv = ["fedlora", "server", file]
    with Path(received).open("ab", buffering=0) as sink:
        record(sink.write)
        fedlora.main()
