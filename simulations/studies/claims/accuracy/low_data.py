"""Few rows (arXiv 2106.09685, appendix F.3, table 16)."""

from collections.abc import Mapping, Sequence
from functools import partial

from simulations.studies.engine.estimate import Estimate, difference, estimate
from simulations.studies.engine.figures import lines
from simulations.studies.engine.rows import COLUMNS, method_rows
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, rates_around, require_classes
from simulations.studies.methods.attached import Method
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.own_weights import OwnWeights
from simulations.studies.methods.prefix import Prefix

LORA, FULL, PREFIX = "LoRA", "full fine-tuning", "prefix-layer"
METHODS: Mapping[str, Method] = {LORA: LowRank(8), FULL: OwnWeights(), PREFIX: Prefix(16, layers=True)}
SIZES = 100, 1000
GRID = 0.01, 0.03, 0.1, 0.3, 1


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "low-data")
    rates, sizes = rates_around(setting, *GRID), _sizes(setting)
    return [Arm(_name(name, size), each, rates, rows=size) for name, each in METHODS.items() for size in sizes]


def _sizes(setting: Setting) -> tuple[int, ...]:
    """Return the numbers of rows that the recipe has, and all of them."""
    count = setting.training_rows
    return (min(SIZES[0], count),) if setting.quick else (*(size for size in SIZES if size < count), count)


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    sizes = _sizes(setting)
    drawn: dict[str, dict[float, Estimate]] = {
        name: {size: estimate([each.accuracy for each in found[_name(name, size)]]) for size in sizes}
        for name in METHODS
    }
    few = sizes[0]
    lora, full, prefix = ([each.accuracy for each in found[_name(name, few)]] for name in METHODS)
    gains = difference(lora, full), difference(lora, prefix)
    held = True if min(g.low for g in gains) > 0 else (False if min(g.high for g in gains) < 0 else None)
    text = (
        f"With {few} rows LoRA is right on {drawn[LORA][few]} of the test rows, full fine-tuning on {drawn[FULL][few]} "
        f"and prefix-layer on {drawn[PREFIX][few]}: differences of {gains[0]} and {gains[1]}. Every method makes as "
        "many steps with few rows as with all."
    )
    return Findings(
        COLUMNS, method_rows(found), held, text, partial(lines, found=drawn, labels=("training rows", "test accuracy"))
    )


def _name(method: str, size: int) -> str:
    return f"{method}, {size} rows"


STUDY = Study(
    "Few rows",
    "With 100 training rows LoRA performs better than full fine-tuning, and prefix-layer significantly worse than "
    "both; the gap closes as rows increase (appendix F.3, table 16; GPT-3 175B on MNLI).",
    _arms,
    _conclude,
)
