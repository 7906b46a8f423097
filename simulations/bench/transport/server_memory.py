"""Largest growth of a server's memory through real rounds, with 2 and with 20 nodes.

Grid, roster, signatures, spool, the default algorithm, exactness, journal and published adapter are real; the nodes are
in two processes and reply with random factors of rank 2 or 4, in turn. Growth is the peak of the resident memory of
the server's process less what it held when all nodes were connected and no round had begun.

Its bound is three times the global factors as sent, in float32, plus the size of S, in float64, both after the last
round: S has as many directions as updates brought, up to rank_kept. Each rank that occurs in a round costs one payload
with the global factors.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from common.adapters.adapter import Adapter
from server.rounds.participants import RunModel
from server.run_folder import RunFolder
from server.storage.journal import Journal
from simulations.bench.measure import Comparison, peak_growth, require, run_in_fresh_process
from simulations.bench.transport.deployment import Ranks, connect_nodes, make_project, serve_grid, train_rounds
from simulations.bench.transport.synthetic import described, random_factors

COUNTS = (2, 20)
RANKS = (2, 4)
MODULES, SIZE = 256, 1024
"""Global factors of rank 4 x 4 take 32 MiB."""
ROUNDS = 4
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Held:
    """Bytes of the server's growth, and of the global factors and S at the end.

    Args:
        worst: the largest aggregation error of a round.
        counted: fewest updates that counted in a round.
    """

    growth: int
    sent: int
    kept: int
    worst: float
    counted: int
    nodes: int


def measure() -> list[Comparison]:
    """Measure bytes, for each number of nodes."""
    return [compare({f"node-{i:02}": RANKS[i % len(RANKS)] for i in range(n)}, MODULES, SIZE) for n in COUNTS]


def compare(ranks: Ranks, modules: int, size: int) -> Comparison:
    """Compare the growth with its bound, for nodes of these ranks and `modules` modules of width `size`.

    Raises:
        GateError: a round was inexact, or an update did not count.
    """
    with TemporaryDirectory() as scratch:
        make_project(Path(scratch), ranks)
        held = run_in_fresh_process(through_rounds, Path(scratch), ranks, modules, size)
    figure, bound, gate = f"growth through {ROUNDS} rounds, {len(ranks)} nodes", 3 * held.sent + held.kept, exact(held)
    return Comparison(figure, held.growth, bound, "bytes", "3 G + S", at_most=1.0, gate=gate)


def exact(held: Held) -> str:
    """Check that all updates counted and every round was exact, and return the gate.

    Raises:
        GateError: an update did not count, or a round was not exact.
    """
    return require(
        held.counted == held.nodes and held.worst <= TOLERANCE,
        f"{held.counted} of {held.nodes} updates count in each round, summed to {held.worst:.0e}; "
        f"global factors {held.sent / 2**20:.0f} MiB, S {held.kept / 2**20:.0f} MiB",
    )


def through_rounds(folder: Path, ranks: Ranks, modules: int, size: int) -> Held:
    """Measure a server through its rounds; it is this process."""
    shapes = {f"layers.{number:03}": (size, size) for number in range(modules)}
    processes = [dict(list(ranks.items())[start::2]) for start in (0, 1)]
    run = RunFolder(folder / "run")
    run.path.mkdir()
    with (
        Journal.open(run.journal) as journal,
        serve_grid(folder, run.journal, told=()) as grid,
        connect_nodes(grid, folder, processes, partial(random_factors, shapes, ranks)),
    ):
        model = RunModel(described(shapes), max(RANKS))
        growth = peak_growth(partial(train_rounds, folder, grid, journal, run, model, ROUNDS))
        parts = journal.last_state().parts
        records = [entry["metrics"] for entry in journal.entries[1:]]
    counted = min(sum(client["status"] == "ok" for client in record["clients"]) for record in records)
    worst = max(record["aggregation_error"] for record in records)
    return Held(growth, _bytes(parts["global"].astype("f4")), _bytes(parts["mass"]), worst, counted, len(ranks))


def _bytes(adapter: Adapter) -> int:
    return sum(array.nbytes for array in adapter.arrays().values())
