"""Pooled training: the recipe once more as one client that holds all rows, for the report to compare.

The client computes as many batches a round as the clients of the recipe together, over the same base, head and test
rows. What separates a run from it is that rows stay apart: skew, averages of local steps, ranks below the largest.
"""

from dataclasses import replace
from pathlib import Path

from common.settings.reader import to_tables
from common.settings.recipe import Clients, Recipe, Server
from server.algorithms import algorithm_named
from server.run_folder import RunFolder
from server.storage.journal_reader import begun_modules
from simulations.prepare import Prepared, prepare
from simulations.recipe import as_begun
from simulations.report.page import POOLED

ALGORITHM = "increments"
"""Of pooled training, unless the recipe's clients send gradients: a lone client has no others to average with."""


def prepare_pooled(recipe: Recipe, clients: int, run: Path | None) -> tuple[Recipe, Prepared]:
    """Return the settings of pooled training, and its one client.

    Args:
        recipe: of the run.
        clients: number of its clients.
        run: its folder if it has begun; pooled training there goes on.

    Raises:
        FedloraError: names what is wrong and the remedy.
    """
    pooled, begun = pool(recipe, clients), tuple[str, ...]()
    if run and (run / POOLED / "config.toml").is_file():
        pooled = as_begun(to_tables(pooled), "--pooled", run / POOLED)
        begun = begun_modules(RunFolder(run / POOLED).journal)
    return pooled, prepare(pooled, begun=begun)


def pool(recipe: Recipe, clients: int) -> Recipe:
    """Return the recipe of one client that holds the rows of all, with the batches of a round of so many clients."""
    together = min(recipe.server.cohort or clients, clients)
    rank = recipe.server.rank_shared or max(recipe.clients.ranks)
    return replace(
        recipe,
        clients=Clients(count=1, ranks=(rank,), partition="iid", min_rows=1),
        train=replace(recipe.train, steps=together * recipe.train.steps),
        server=_rule(recipe.server),
    )


def _rule(server: Server) -> Server:
    """Return the rule without what protects or weighs clients against each other."""
    exchanges = algorithm_named(server.algorithm).asks_gradients == "compressed-gradient"
    algorithm = server.algorithm if exchanges else ALGORITHM
    return replace(
        server, algorithm=algorithm, cohort=None, weights=None, max_share="auto", norm_bound=0.0, proximal=0.0
    )
