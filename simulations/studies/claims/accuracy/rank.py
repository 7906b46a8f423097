"""Which rank suffices, on which projections (arXiv 2106.09685, section 7.2, table 6)."""

from collections.abc import Mapping, Sequence
from functools import partial

from simulations.studies.engine.estimate import Estimate, difference, estimate
from simulations.studies.engine.figures import lines
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, rates_around, require_classes
from simulations.studies.methods.low_rank import LowRank

RANKS = 1, 2, 4, 8, 64
PLACES = {"q": ("query",), "q,v": ("query", "value"), "q,k,v,o": ("query", "key", "value", "output")}
POINT = 0.01
"""A loss of accuracy below which a rank is as good."""


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "rank")
    rates, of = rates_around(setting, 0.03, 0.1, 0.3, 1, 3), setting.rows_of_adapters
    ranks, places = ((1, 8), ("q", "q,v")) if setting.quick else (RANKS, tuple(PLACES))
    return [Arm(_name(place, r), LowRank(r, PLACES[place]), rates, of) for place in places for r in ranks]


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    means: dict[str, dict[float, Estimate]] = {
        place: {
            r: estimate([each.accuracy for each in found[name]]) for r in RANKS if (name := _name(place, r)) in found
        }
        for place in PLACES
    }
    drawn = {place: points for place, points in means.items() if points}
    low, high = _ends(drawn["q,v"])
    gain = difference(*([each.accuracy for each in found[_name("q,v", int(r))]] for r in (high, low)))
    held = True if gain.high <= POINT else (False if gain.low > POINT else None)
    text = (
        f"On Wq and Wv, rank {high:g} is right on {gain} more of the test rows than rank {low:g}: "
        f"{drawn['q,v'][low]} and {drawn['q,v'][high]}. A rank is called as good where it loses less than {POINT}."
    )
    ranks = sorted({r for points in drawn.values() for r in points})
    rows = [[place, *(str(points[r]) for r in ranks)] for place, points in drawn.items()]
    draw = partial(lines, found=drawn, labels=("rank r", "test accuracy"))
    return Findings(["adapted", *(f"r = {r:g}" for r in ranks)], rows, held, text, draw)


def _ends(points: Mapping[float, object]) -> tuple[float, float]:
    return min(points), max(points)


def _name(place: str, rank: int) -> str:
    return f"{place} r={rank}"


STUDY = Study(
    "The rank of LoRA",
    "LoRA already performs competitively with a very small r, more so for {Wq, Wv} than just Wq: a rank as small as "
    "one suffices for adapting both Wq and Wv (section 7.2, table 6; GPT-3 175B on WikiSQL and MultiNLI).",
    _arms,
    _conclude,
    federates=True,
)
