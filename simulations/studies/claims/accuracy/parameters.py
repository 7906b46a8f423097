"""More parameters (arXiv 2106.09685, section 5.5, figure 2)."""

from collections.abc import Mapping, Sequence
from functools import partial

from simulations.studies.engine.estimate import Estimate, estimate
from simulations.studies.engine.figures import lines
from simulations.studies.engine.rows import COLUMNS, method_rows
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, rates_around, require_classes
from simulations.studies.methods.attached import Method
from simulations.studies.methods.bottleneck import Bottleneck
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.prefix import Prefix

FAMILIES: Mapping[str, Mapping[int, Method]] = {
    "LoRA": {r: LowRank(r) for r in (1, 4, 16, 64)},
    "prefix-embedding": {n: Prefix(n) for n in (4, 16, 64, 192)},
    "prefix-layer": {n: Prefix(n, layers=True) for n in (4, 16, 64, 192)},
    "adapter H": {r: Bottleneck(r) for r in (1, 4, 16, 64)},
}
"""Methods of growing size, by rank, tokens or width."""
GRID = 0.03, 0.1, 0.3, 1, 3
SLACK = 0.01
"""A fall of accuracy that is taken for noise."""


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "parameters")
    rates = rates_around(setting, *GRID)
    return [
        Arm(_name(name, size), method, rates)
        for name, family in FAMILIES.items()
        for size, method in list(family.items())[: 2 if setting.quick else None]
    ]


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    drawn: dict[str, dict[float, Estimate]] = {
        name: {outcomes[0].parameters: estimate([each.accuracy for each in outcomes]) for outcomes in own}
        for name, family in FAMILIES.items()
        if (own := [found[_name(name, size)] for size in family if _name(name, size) in found])
    }
    falls = {name: _largest_fall(list(points.values())) for name, points in drawn.items()}
    prefix = max(falls["prefix-embedding"], falls["prefix-layer"])
    held = (falls["LoRA"] <= SLACK < prefix) or (None if prefix <= SLACK and falls["LoRA"] <= SLACK else False)
    text = (
        f"From one size to a larger one, the accuracy of LoRA falls by {max(falls['LoRA'], 0):.3f} at most, that of "
        f"the prefixes by {max(prefix, 0):.3f}, that of adapters by {max(falls['adapter H'], 0):.3f}; a fall of "
        f"{SLACK} is taken for noise."
    )
    draw = partial(lines, found=drawn, labels=("trained parameters", "test accuracy"))
    return Findings(COLUMNS, method_rows(found), held, text, draw)


def _largest_fall(points: Sequence[Estimate]) -> float:
    """Return the largest loss of mean accuracy from any size to a larger one."""
    means = [each.mean for each in points]
    return max((a - b for i, a in enumerate(means) for b in means[i + 1 :]), default=0.0)


def _name(family: str, size: int) -> str:
    return f"{family} {size}"


STUDY = Study(
    "More parameters",
    "Not all methods benefit monotonically from more trainable parameters: prefix-embedding falls with more than 256 "
    "tokens and prefix-layer with more than 32, while LoRA scales (section 5.5, figure 2; GPT-3 175B).",
    _arms,
    _conclude,
    seeds=3,
)
