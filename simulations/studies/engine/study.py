"""A study as data: a claim, the trials that test it, and what is concluded from their outcomes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.figure import Figure

from common.errors import ConfigError
from common.settings.tasks import TASKS
from simulations.studies.engine.outcomes import Outcome
from simulations.studies.engine.setting import Setting
from simulations.studies.methods.attached import Method

Of = Literal["all", "federation"] | int


@dataclass(frozen=True)
class Arm:
    """One way to train, a row of a study's table.

    Args:
        name: of the row.
        method: that is trained.
        rates: the learning rates that it may choose from, on validation rows of the first seed.
        of: whose rows: `all`, centrally; `federation`, the recipe's clients by its rule, with A and B; or the number of
            one client, alone.
        rows: so many training rows, drawn from those of all clients; all if not set.
        settings: overrides of the recipe, KEY=VALUE.
        keeps: the outcome has the update of each target.
    """

    name: str
    method: Method
    rates: tuple[float, ...]
    of: Of = "all"
    rows: int | None = None
    settings: tuple[str, ...] = ()
    keeps: bool = False


@dataclass(frozen=True)
class Trial:
    """An arm at one of its rates and a seed."""

    arm: Arm
    rate: float
    seed: int


Outcomes = Mapping[str, Sequence[Outcome]]
"""By arm, those at the chosen rate, in order of seed."""


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Args:
        columns: of its table.
        rows: of its table, as they are printed.
        held: whether the claim held; None if these trials cannot tell.
        text: a paragraph that says so, with the numbers.
        draw: draws the figure.
        numbers: all that was measured, for JSON.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    held: bool | None
    text: str
    draw: Callable[[Figure], None]
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A claim of the LoRA paper, and how it is measured.

    Args:
        title: of its page.
        claim: what the paper says, and where.
        arms: returns what is trained, nothing if the study only measures.
        conclude: returns the findings from the outcomes.
        seeds: number of seeds by default.
        most_seeds: that it can use; any number if not set.
        federates: its adapters can be trained by the recipe's clients.
    """

    title: str
    claim: str
    arms: Callable[[Setting], Sequence[Arm]]
    conclude: Callable[[Setting, Outcomes], Findings]
    seeds: int = 5
    most_seeds: int | None = None
    federates: bool = False


def rates_around(setting: Setting, *factors: float) -> tuple[float, ...]:
    """Return multiples of the recipe's learning rate; in a quick study the rate alone."""
    rate = setting.recipe().train.lr
    return (rate,) if setting.quick else tuple(float(f"{rate * each:.3g}") for each in factors)


def require_classes(setting: Setting, study: str) -> None:
    """Check that the recipe's task has an accuracy.

    Raises:
        ConfigError: it has none.
    """
    data = setting.data
    if not (data.has_classes or TASKS[data.task].perplexity) or TASKS[data.task].seq2seq:
        raise ConfigError(
            f"[data] task = {data.task!r}, problem_type = {data.problem_type!r}: study {study} counts how many "
            'predictions are right, which its rows do not have; use a recipe of one class a row, or of task "causal-lm"'
        )
