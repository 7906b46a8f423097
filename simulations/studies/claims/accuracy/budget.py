"""Ranks under a budget, agreed on by the clients, beside one rank on Wq and Wv: no claim of the LoRA paper.

The paper leaves open which weights to adapt, and how to choose them better than by a rule of thumb (section 8).
"""

from collections.abc import Mapping, Sequence
from functools import partial

from client.node import attach_lora
from simulations.studies.engine.estimate import difference
from simulations.studies.engine.figures import bars
from simulations.studies.engine.rows import COLUMNS, accuracies, method_rows
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, rates_around, require_classes
from simulations.studies.methods.low_rank import LowRank

RANK, LARGEST = 8, 16
"""Rank of Wq and Wv, and the largest that a plan gives."""
UNIFORM, PLANNED, WITHIN = "Wq and Wv at rank 8", "planned, all linear", "planned, Wq and Wv"


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "budget")
    rates, budget = rates_around(setting, 0.3, 1, 3), f"lora.budget={_parameters(setting)}"
    settings: Mapping[str, tuple[int, tuple[str, ...]]] = {
        UNIFORM: (RANK, ("lora.targets=query-value",)),
        PLANNED: (LARGEST, ("lora.targets=all-linear", budget)),
        WITHIN: (LARGEST, ("lora.targets=query-value", budget)),
    }
    return [Arm(name, LowRank(rank), rates, "federation", settings=own) for name, (rank, own) in settings.items()]


def _parameters(setting: Setting) -> int:
    """Return the parameters of Wq and Wv at one rank, which all may have."""
    shapes = attach_lora(setting.base, LowRank(RANK).targets(setting.base))[1].shapes
    return RANK * sum(map(sum, shapes.values()))


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    means = accuracies(found)
    gains = [difference(*([e.accuracy for e in found[name]] for name in (arm, UNIFORM))) for arm in (PLANNED, WITHIN)]
    held = True if gains[0].low > 0 else (False if gains[0].high < 0 else None)
    text = (
        f"With {found[PLANNED][0].parameters:,} parameters on the modules and at the ranks that the clients agreed on, "
        f"the run is right on {means[PLANNED]} of the test rows, with {found[UNIFORM][0].parameters:,} on Wq and Wv at "
        f"rank {RANK} on {means[UNIFORM]}: a difference of {gains[0]}. Where the plan may only move ranks between Wq "
        f"and Wv of the layers, the difference is {gains[1]}."
    )
    return Findings(COLUMNS, method_rows(found), held, text, partial(bars, found=means, label="test accuracy"))


STUDY = Study(
    "Ranks under a budget",
    "No claim of the paper, which asks how to select the matrices to adapt more systematically (section 8): ranks that "
    "the clients agree on, by the norms of their gradients, are right on more test rows than one rank on Wq and Wv, "
    "with as many parameters.",
    _arms,
    _conclude,
)
