"""Why a node's probe of its server failed, and whether that may heal."""

import time

import pytest

from client.network.probe import Unreachable, probe
from common.errors import TransportError


def cause(server, tls, proxy=None) -> TransportError:
    """Why there is no connection, told within the time that is promised."""
    server = server if isinstance(server, str) else f"127.0.0.1:{server}"
    began = time.monotonic()
    with pytest.raises(TransportError) as failure:
        probe(server, tls, proxy)
    assert time.monotonic() - began < 5
    return failure.value


def heals(error: TransportError) -> bool:
    return isinstance(error, Unreachable)
