"""The cause of a node's failed probe of its server, and whether that may heal."""

import time

import pytest

from client.network.probe import Unreachable, probe
from common.errors import TransportError


def cause(server, tls, proxy=None) -> TransportError:
    """Return the error that prevents a connection, raised within the promised time."""
    server = server if isinstance(server, str) else f"127.0.0.1:{server}"
    began = time.monotonic()
    with pytest.raises(TransportError) as failure:
        probe(server, tls, proxy)
    assert time.monotonic() - began < 5
    return failure.value


def heals(error: TransportError) -> bool:
    return isinstance(error, Unreachable)
