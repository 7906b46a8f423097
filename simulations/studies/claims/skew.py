"""Skewed clients: how far their updates move where pooled training does, and what their federation amplifies.

No claim of the LoRA paper: its measures (sections 7.2 and 7.3), on clients whose labels are dealt out by Dirichlet
shares. A client's update is what it trains alone, from the start from which pooled training begins.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from common.adapters.adapter import Adapter, Array
from common.errors import ConfigError
from simulations.studies.claims.amplification import amplification_of, at_rank, weights_of
from simulations.studies.engine.estimate import Estimate, estimate
from simulations.studies.engine.figures import lines
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study
from simulations.studies.measures.subspaces import directions, similarity
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.places import projections, role_of

BETAS, RANKS, CLIENTS = (0.1, 1.0, 100.0), (4, 16), 3
TOP = 4
"""Directions that are compared: phi(4, 4)."""


def _arms(setting: Setting) -> Sequence[Arm]:
    data = setting.data
    if not data.has_classes:
        raise ConfigError(
            f"[data] task = {data.task!r}, problem_type = {data.problem_type!r}: study skew deals rows out by their "
            'labels; use a recipe of task "classification" with one class a row'
        )
    if (count := setting.recipe().clients.count) is not None and count < CLIENTS:
        raise ConfigError(
            f"[clients] count = {count}: study skew trains {CLIENTS} clients alone; set count to {CLIENTS} or more"
        )
    projections(setting.base, "query")  # Of its own, or it is refused.
    rate = (setting.recipe().train.lr,)
    arms = []
    for rank, beta in _grid(setting):
        dealt = "clients.partition=dirichlet", f"clients.beta={beta:g}"
        own = [(_client(rank, beta, i), i, dealt) for i in range(CLIENTS)]
        for name, of, settings in (*own, (_federated(rank, beta), "federation", dealt)):
            arms.append(Arm(name, LowRank(rank), rate, of, settings=settings, keeps=True))  # type: ignore[arg-type]
    return [*arms, *(Arm(_pooled(rank), LowRank(rank), rate, keeps=True) for rank in _ranks(setting))]


def _ranks(setting: Setting) -> tuple[int, ...]:
    return RANKS[:1] if setting.quick else RANKS


def _grid(setting: Setting) -> list[tuple[int, float]]:
    return [(rank, beta) for rank in _ranks(setting) for beta in (BETAS[::2] if setting.quick else BETAS)]


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    weights = weights_of(setting.base, [n for n in found[_pooled(RANKS[0])][0].update if role_of(n) == "query"])
    drawn: dict[str, dict[float, Estimate]] = {}
    rows = []
    for rank, beta in _grid(setting):
        pooled = [each.update for each in found[_pooled(rank)]]
        clients = [[each.update for each in found[_client(rank, beta, i)]] for i in range(CLIENTS)]
        overlap = estimate([float(np.mean([_overlap(c[s], p) for c in clients])) for s, p in enumerate(pooled)])
        together = estimate([_overlap(e.update, p) for e, p in zip(found[_federated(rank, beta)], pooled, strict=True)])
        factor = estimate([amplification_of(at_rank(e.update, rank), weights) for e in found[_federated(rank, beta)]])
        drawn.setdefault(f"clients, r = {rank}", {})[beta] = overlap
        drawn.setdefault(f"federation, r = {rank}", {})[beta] = together
        rows.append(
            [str(rank), f"{beta:g}", str(overlap), str(together), str(factor), str(_of_pooled(pooled, weights))]
        )
    first, last = (drawn[f"clients, r = {_ranks(setting)[-1]}"][beta] for beta in (BETAS[0], BETAS[-1]))
    held = True if first.high < last.low else (False if first.low > last.high else None)
    text = (
        f"phi({TOP}, {TOP}) between a client's update and that of pooled training, the mean over clients and modules, "
        f"is {first} at beta = {BETAS[0]} and {last} at {BETAS[-1]:g}. The last two columns have the amplification of "
        "Wq by the federated and by the pooled update. Clients start at the A of pooled training, the federation at "
        "its own, which lowers what it can share."
    )
    columns = ["rank", "beta", "client and pooled", "federated and pooled", "amplification, federated", "pooled"]
    draw = partial(
        lines, found=drawn, labels=("beta of the Dirichlet shares", f"phi({TOP}, {TOP}) with pooled training")
    )
    return Findings(columns, rows, held, text, draw)


def _overlap(first: Adapter, second: Adapter) -> float:
    """Return phi(4, 4) on the side of the inputs, the mean over the modules."""
    pairs = ((directions(first[name])[:, :TOP], directions(second[name])[:, :TOP]) for name in second)
    return float(np.mean([similarity(a, b)[-1, -1] for a, b in pairs if a.shape[1] and b.shape[1]]))


def _of_pooled(pooled: Sequence[Adapter], weights: Mapping[str, Array]) -> Estimate:
    return estimate([amplification_of(each, weights) for each in pooled])


def _client(rank: int, beta: float, number: int) -> str:
    return f"client {number + 1}, r={rank}, beta={beta:g}"


def _federated(rank: int, beta: float) -> str:
    return f"federation, r={rank}, beta={beta:g}"


def _pooled(rank: int) -> str:
    return f"pooled, r={rank}"


STUDY = Study(
    "Skewed clients and pooled training",
    "Nothing is published on it that we know of: the more clients differ, the less their updates should share the top "
    "directions of pooled training.",
    _arms,
    _conclude,
    seeds=3,
)
