"""The comparisons as data: a task, the methods that compete on it, and one trial of a method."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from common.settings.recipe import Recipe
from common.settings.resume import config_hash
from server.algorithms import algorithm_named
from simulations.recipe import read_recipe

RECIPES = Path(__file__).parents[1] / "recipes"
Key = tuple[str, int, float, int, str]
"""Method, batches between two exchanges, learning rate, seed, and the hash of all settings."""


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Args:
        name: of the row.
        settings: overrides of the recipe, KEY=VALUE.
        steps: batches of a client from one exchange to the next, one number for each way to run the method.
        rates: the learning rates that it may choose from.
        pooled: one client has the rows of all, and computes as much as all.
        calibrated: clients train logits that are calibrated by their own label counts.
    """

    name: str
    settings: tuple[str, ...]
    steps: tuple[int, ...]
    rates: tuple[float, ...]
    pooled: bool = False
    calibrated: bool = False


@dataclass(frozen=True)
class Task:
    """A comparison at equal client compute.

    Args:
        title: of its table and figure.
        recipe: its file, in `simulations/recipes`.
        settings: overrides of the recipe, KEY=VALUE.
        methods: that compete; the first two are pooled training and what the others are compared with.
        batches: that each client computes in a trial, whatever the method is.
        test_rows: rows that a trial is tested on.
        valid_rows: further held-out rows, on which rates are chosen.
        predictions: what is right or wrong.
        axis: of the figure: `exchanges`, or `bytes` to and from all clients.
    """

    title: str
    recipe: str
    settings: tuple[str, ...]
    methods: tuple[Method, ...]
    batches: int = 96
    test_rows: int = 2000
    valid_rows: int = 500
    predictions: str = "test rows"
    axis: Literal["exchanges", "bytes"] = "exchanges"


@dataclass(frozen=True)
class Trial:
    """One run of a method; its key names its record, which belongs to no other settings."""

    task: Task
    method: Method
    steps: int
    rate: float
    seed: int

    @property
    def key(self) -> Key:
        """Return what names the trial."""
        return self.method.name, self.steps, self.rate, self.seed, config_hash(self.recipe)

    @property
    def recipe(self) -> Recipe:
        """Return the recipe of this trial, with as many rounds as the task's compute allows."""
        return _recipe(self)


@cache
def _recipe(trial: Trial) -> Recipe:
    task, file = trial.task, RECIPES / trial.task.recipe
    own = [*task.settings, *trial.method.settings, f"train.steps={trial.steps}", f"train.lr={trial.rate}"]
    own += [f"data.test_rows={task.test_rows + task.valid_rows}", f"seed={trial.seed}"]
    phases = algorithm_named(read_recipe(file, own).server.algorithm).phases
    return read_recipe(file, [*own, f"train.rounds={task.batches // (trial.steps * phases)}"])


def first_trials(task: Task) -> list[Trial]:
    """Return the trials on which rates are chosen: every method at each of its rates, on the first seed."""
    return [Trial(task, m, steps, rate, 1) for m in task.methods for steps in m.steps for rate in m.rates]


_FEDSGD = ("server.algorithm=fedsgd",)
_LOCAL_RATES = 0.002, 0.005, 0.01
_SUM_RATES = 0.005, 0.01, 0.02

SKEW = (
    # One client computes what eight do: batches of 128 rows, in eight passes of 16.
    Method("pooled", (*_FEDSGD, "train.accumulate=8"), (1,), _SUM_RATES, pooled=True),
    Method("increments", (), (8, 4), _LOCAL_RATES),
    Method("HetLoRA", ("server.algorithm=hetlora",), (8,), _LOCAL_RATES),
    Method("FedIT, rank 8", ("server.algorithm=fedit", "clients.ranks=[8]"), (8,), _LOCAL_RATES),
    Method("FLoRA-like", ("server.a=gaussian", "server.rank_global=384"), (8,), _LOCAL_RATES),
    Method("FedProx", ("server.proximal=0.1",), (8,), _LOCAL_RATES),
    Method("increments, calibrated", (), (8,), _LOCAL_RATES, calibrated=True),
    Method("fedlin", ("server.algorithm=fedlin", "server.mode=b"), (4,), _LOCAL_RATES),
    Method("fedsgd", _FEDSGD, (8, 4, 2, 1), _SUM_RATES),
    Method("fedsgd, warm-up 8", (*_FEDSGD, "train.warmup=8"), (2, 1), _SUM_RATES),
    Method("fedsgd, warm-up 8, hold 16", (*_FEDSGD, "train.warmup=8", "server.hold=16"), (2,), _SUM_RATES),
    Method("fedsgd, B alone", (*_FEDSGD, "server.mode=b"), (2, 1), _SUM_RATES),
)
"""The rules of the project and of the literature, on labels that hardly overlap between clients."""

_RANKS = "clients.ranks=[1,2,4,4,8,8,16,16]"
_LEADERS = tuple(
    m for m in SKEW if m.name in ("pooled", "increments", "increments, calibrated", "fedsgd", "fedsgd, warm-up 8")
)

_LATE = (*_FEDSGD, "train.warmup=8")
_GROWN = "server.rank_change=16"
BYTES = (
    replace(SKEW[0], rates=(0.01,)),
    Method("increments", (), (8,), (0.005,)),
    Method("increments, changes of rank 16", (_GROWN,), (8,), (0.005,)),
    Method("increments, changes of rank 16, bfloat16", (_GROWN, "server.wire=bfloat16"), (8,), (0.005,)),
    Method("increments, changes of rank 16, int8", (_GROWN, "server.wire=int8"), (8,), (0.005,)),
    Method("increments, changes of rank 8, int8", ("server.rank_change=8", "server.wire=int8"), (8,), (0.005,)),
    Method("fedsgd", _LATE, (1,), (0.01,)),
    Method("fedsgd, bfloat16", (*_LATE, "server.wire=bfloat16"), (1,), (0.01,)),
    Method("fedsgd, int8", (*_LATE, "server.wire=int8"), (1,), (0.01,)),
)
"""What fewer bytes cost: changes in place of the whole global update, and fewer bits, each with and without."""

# bfloat16 takes half the time of float32 on a processor with AMX; accuracies differ by a point or less.
_COMMON = "base.dtype=bfloat16", "server.algorithm=increments", "server.wire=float32", "train.warmup=2"


def _language(clients: int) -> tuple[Method, ...]:
    """Return the rules of the project for a language model, in rounds of four batches or of one."""
    return (
        Method("pooled", (*_FEDSGD, f"train.accumulate={clients}"), (1,), _TOKEN_RATES, pooled=True),
        Method("increments", (), (4, 1), _TOKEN_RATES),
        Method("fedsgd", _FEDSGD, (4, 1), _TOKEN_RATES),
    )


_TOKEN_RATES = 0.001, 0.003, 0.01
_SMALL: Mapping[str, Any] = {"batches": 16, "test_rows": 240, "valid_rows": 60, "predictions": "tokens of test answers"}
TASKS: Mapping[str, Task] = {
    "skew": Task("Library docs, Dirichlet 0.1", "docs.toml", ("clients.beta=0.1", *_COMMON), SKEW),
    "mild": Task("Library docs, Dirichlet 1.0", "docs.toml", _COMMON, _LEADERS),
    "bytes": Task("Library docs, Dirichlet 1.0: bytes", "docs.toml", _COMMON, BYTES, axis="bytes"),
    "banking": Task(
        "Banking77, Dirichlet 0.1", "banking.toml", ("clients.beta=0.1", "clients.count=8", _RANKS, *_COMMON), _LEADERS
    ),
    "lm": Task("Docstrings, a client a library", "docs-lm.toml", _COMMON, _language(15), **_SMALL),
    "medical": Task("Medical answers, a client an institute", "medical.toml", _COMMON, _language(9), **_SMALL),
}
