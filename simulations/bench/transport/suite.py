"""The transport of a deployment, real processes over mutual TLS on loopback: what it takes and what it withstands.

Each part says at its top what exactly it measures: `exchange`, `server_memory`, `idle`, `strangers`, `siege`.
"""

import os

from simulations.bench.measure import Comparison
from simulations.bench.transport import exchange, idle, server_memory, siege, strangers

_AS_THE_COMMAND = {"GRPC_VERBOSITY": "NONE", "OPENBLAS_NUM_THREADS": "1"}
"""What `fedlora server` sets: no line for each stranger, NumPy on one thread."""


def measure() -> list[Comparison]:
    """All parts, one after the other.

    Raises:
        GateError: a side did not do what its figure is of.
    """
    for variable, value in _AS_THE_COMMAND.items():
        os.environ.setdefault(variable, value)
    return [row for part in (exchange, server_memory, idle, strangers, siege) for row in part.measure()]
