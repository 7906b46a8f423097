"""One line in place of a traceback: faults in gRPC and asyncio that a peer may cause as often as it likes."""

import asyncio
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from server.transport.door.refusals import COUNT, RefusalLog

_LOGGERS = ("grpc._cython.cygrpc", "grpc._common", "grpc.aio._server")


class _Summed(logging.Filter):
    """Takes the warnings and errors of a logger."""

    def __init__(self, refusals: RefusalLog) -> None:
        super().__init__()
        self._refusals = refusals

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        tell_fault(self._refusals, record.getMessage(), record.exc_info[1] if record.exc_info else None)
        return False


def tell_fault(refusals: RefusalLog, what: str, error: BaseException | None) -> None:
    """Note a fault by its kind, its text and its place in the code."""
    place = traceback.extract_tb(error.__traceback__)[-1:] if error else []
    where = "".join(f" ({type(error).__name__} at {at.filename.rpartition('/')[2]}:{at.lineno})" for at in place)
    kind = type(error).__name__ if error else "fault"
    more = f"{COUNT} more calls failed in gRPC in the last minute: {kind}"
    refusals.note("call-failed", "", kind, f"a call failed in gRPC{where}: {what}", more, logging.ERROR)


@contextmanager
def faults_in_one_line(refusals: RefusalLog) -> Iterator[None]:
    """Note the faults of gRPC and of the running event loop as refusals while the block runs."""

    def on_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        tell_fault(refusals, context["message"], context.get("exception"))

    asyncio.get_running_loop().set_exception_handler(on_fault)
    summed = _Summed(refusals)
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(summed)
    try:
        yield
    finally:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(summed)
