"""The transport of a deployment, real processes over mutual TLS on loopback: what it takes and what it withstands.

Each part says at its top what exactly it measures: `exchange`, `server_memory`, `idle`, `strangers`, `siege`.
"""

import os

from simulations.bench import exchange, idle, server_memory, siege, strangers
from simulations.bench.measure import Comparison


def measure() -> list[Comparison]:
    """All parts, one after the other.

    Raises:
        GateError: a side did not do what its figure is of.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # else a line for each stranger
    return [row for part in (exchange, server_memory, idle, strangers, siege) for row in part.measure()]
