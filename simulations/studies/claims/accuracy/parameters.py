"""More parameters (arXiv 2106.09685, section 5.5, figure 2)."""

from collections.abc import Mapping, Sequence
from functools import partial

from simulations.studies.engine.estimate import Estimate, difference, estimate
from simulations.studies.engine.figures import lines
from simulations.studies.engine.outcomes import Outcome
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
    families = {
        name: [found[_name(name, size)] for size in family if _name(name, size) in found]
        for name, family in FAMILIES.items()
    }
    drawn: dict[str, dict[float, Estimate]] = {
        name: {each[0].parameters: estimate(_accuracies(each)) for each in own} for name, own in families.items()
    }
    falls = {name: _falls(own) for name, own in families.items()}
    prefix = max(falls["prefix-embedding"], falls["prefix-layer"], key=lambda fall: fall.mean)
    text = (
        f"From the size that is best on validation rows to the largest, accuracy falls by {falls['LoRA']} for LoRA, "
        f"{prefix} for a prefix and {falls['adapter H']} for adapters; a fall of {SLACK} is taken for noise. Prefixes "
        f"have {max(FAMILIES['prefix-layer'])} tokens at most here."
    )
    draw = partial(lines, found=drawn, labels=("trained parameters", "test accuracy"))
    return Findings(COLUMNS, method_rows(found), _held(falls["LoRA"], prefix), text, draw)


def _held(lora: Estimate, prefix: Estimate) -> bool | None:
    """Return whether LoRA does not fall and a prefix does; None where an interval leaves it open."""
    if lora.low > SLACK or prefix.high <= SLACK:
        return False
    return True if lora.high <= SLACK < prefix.low else None


def _falls(sizes: Sequence[Sequence[Outcome]]) -> Estimate:
    """Return the loss of accuracy from the size that is best on validation rows to the largest, seed by seed."""
    best = max(sizes, key=lambda outcomes: sum(each.merit[0] for each in outcomes))
    return difference(_accuracies(best), _accuracies(sizes[-1]))


def _accuracies(outcomes: Sequence[Outcome]) -> list[float]:
    return [each.accuracy for each in outcomes]


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
