"""The transport of a deployment, real processes over mutual TLS on loopback: its cost, and its resistance to attacks.

Each part states at its top exactly what it measures: `exchange`, `server_memory`, `idle`, `strangers`, `siege`,
`hostile_memory`.
"""

import os

from simulations.bench.measure import Comparison
from simulations.bench.transport import exchange, hostile_memory, idle, server_memory, siege, strangers

_AS_THE_COMMAND = {"GRPC_VERBOSITY": "NONE", "OPENBLAS_NUM_THREADS": "1"}
"""Variables that `fedlora server` sets: no log line for each stranger, NumPy on one thread."""


def measure() -> list[Comparison]:
    """Measure all parts, one after the other.

    Raises:
        GateError: a side did not do what its figure measures.
    """
    for variable, value in _AS_THE_COMMAND.items():
        os.environ.setdefault(variable, value)
    return [row for part in (exchange, server_memory, idle, strangers, siege, hostile_memory) for row in part.measure()]
