"""Which projections to adapt with one budget of parameters (arXiv 2106.09685, section 7.1, table 5)."""

from collections.abc import Collection, Sequence
from functools import partial

from simulations.studies.engine.estimate import Estimate, difference, estimate
from simulations.studies.engine.figures import bars
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, rates_around, require_classes
from simulations.studies.methods.low_rank import LowRank

PLACES = {
    "Wq": LowRank(8, ("query",)),
    "Wk": LowRank(8, ("key",)),
    "Wv": LowRank(8, ("value",)),
    "Wo": LowRank(8, ("output",)),
    "Wq, Wk": LowRank(4, ("query", "key")),
    "Wq, Wv": LowRank(4, ("query", "value")),
    "Wq, Wk, Wv, Wo": LowRank(2, ("query", "key", "value", "output")),
}
"""A budget of 8 times the width of one projection a layer."""
BOTH = "Wq, Wv"
QUICK = "Wq", BOTH


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "placement")
    rates = rates_around(setting, 0.03, 0.1, 0.3, 1, 3)
    names = QUICK if setting.quick else tuple(PLACES)
    return [Arm(name, PLACES[name], rates, setting.rows_of_adapters) for name in names]


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    accuracies = {name: [each.accuracy for each in outcomes] for name, outcomes in found.items()}
    means = {name: estimate(values) for name, values in accuracies.items()}
    gains = {name: difference(accuracies[BOTH], values) for name, values in accuracies.items() if name != BOTH}
    best = max(means, key=lambda name: means[name].mean)
    text = (
        f"Wq and Wv at rank 4 are right on {means[BOTH]} of the test rows. They are ahead of "
        f"{'; of '.join(f'{name} by {gain}' for name, gain in gains.items())}. Best of all is {best}, with "
        f"{means[best]}."
        f"{_unequal([outcomes[0].parameters for outcomes in found.values()])}"
    )
    rows = [
        [name, str(PLACES[name].rank), f"{found[name][0].parameters:,}", f"{found[name][0].rate:g}", str(means[name])]
        for name in found
    ]
    columns = ["adapted", "rank", "parameters", "rate", "test accuracy"]
    return Findings(columns, rows, _held(gains.values()), text, partial(bars, found=means, label="test accuracy"))


def _held(gains: Collection[Estimate]) -> bool | None:
    """Return whether they are ahead of each other place; None where an interval leaves it open."""
    if any(gain.high < 0 for gain in gains):
        return False
    return True if all(gain.low > 0 for gain in gains) else None


def _unequal(counts: Sequence[int]) -> str:
    """Return what is said where the projections differ in shape, as with grouped queries."""
    low, high = min(counts), max(counts)
    if low == high:
        return ""
    return f" The projections of this base differ in shape: the budgets are no equal ones, from {low:,} to {high:,}."


STUDY = Study(
    "Where to adapt, with one budget",
    "With the same number of parameters, adapting Wq and Wv together gives the best performance overall; all of them "
    "in Wq or in Wk alone perform significantly worse (section 7.1, table 5; 18M parameters on GPT-3 175B).",
    _arms,
    _conclude,
    federates=True,
)
