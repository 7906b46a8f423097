"""The rank of a weight, and of an update of it (arXiv 2106.09685, section 8, question 4)."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Array
from simulations.studies.claims.amplification import weights_of
from simulations.studies.engine.estimate import estimate
from simulations.studies.engine.figures import bars
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, require_classes
from simulations.studies.measures.ranks import effective_rank, stable_rank
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.own_weights import OwnWeights
from simulations.studies.methods.places import role_of

ROLES = {"query": "Wq", "key": "Wk", "value": "Wv", "output": "Wo"}
LORA, FULL = "LoRA, r = 64", "full fine-tuning"
FULL_SHARE = 0.03
"""Of the recipe's rate, which is LoRA's: one at which all weights learn."""


DEFICIENT = 0.5
"""Share of the most by shape below which an effective rank is called deficient."""


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "redundancy")
    rate = setting.recipe().train.lr
    return [
        Arm(LORA, LowRank(64, tuple(ROLES)), (rate,), keeps=True),
        Arm(FULL, OwnWeights(), (FULL_SHARE * rate,), keeps=True),
    ]


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    updates = {name: found[name][0].update for name in (LORA, FULL)}
    weights = weights_of(setting.base, [name for name in updates[FULL] if role_of(name) in ROLES])
    spectra = {"W0": {name: np.linalg.svd(weight, compute_uv=False) for name, weight in weights.items()}}
    spectra |= {f"dW, {name}": _spectra(update, list(weights)) for name, update in updates.items()}
    rows, numbers = _rows(spectra)
    drawn = {name: estimate(_shares(own, weights)) for name, own in spectra.items()}
    own, moved = drawn["W0"], drawn[f"dW, {FULL}"]
    held = True if own.high < DEFICIENT else (False if own.low > DEFICIENT else None)
    text = (
        f"The effective rank of W0 is {own.mean:.0%} [{own.low:.0%}, {own.high:.0%}] of the most that its shape "
        f"allows, over the attention's projections, and that of what full fine-tuning adds is {moved.mean:.0%}; "
        f"deficient is what has less than {DEFICIENT:.0%}. The stable rank, which the largest direction dominates, is "
        "lower in each row."
    )
    columns = ["of", *(f"{w}: stable, effective" for w in ROLES.values())]
    draw = partial(bars, found=drawn, label="effective rank / most by shape; intervals over modules")
    return Findings(columns, rows, held, text, draw, numbers)


def _shares(spectra: Mapping[str, Array], weights: Mapping[str, Array]) -> list[float]:
    """Return the effective rank of each module, as a share of the most that its shape allows."""
    return [effective_rank(sigma) / min(weights[name].shape) for name, sigma in spectra.items()]


def _spectra(update: Adapter, names: Sequence[str]) -> dict[str, Array]:
    return {name: lowrank.spectrum(update[name]) for name in names}


def _rows(spectra: Mapping[str, Mapping[str, Array]]) -> tuple[list[list[str]], dict[str, object]]:
    rows, numbers = [], dict[str, object]()
    for what, own in spectra.items():
        cells = []
        for role in ROLES:
            of_role = [sigma for name, sigma in own.items() if role_of(name) == role]
            stable, effective = (float(np.mean([f(sigma) for sigma in of_role])) for f in (stable_rank, effective_rank))
            cells.append(f"{stable:.1f}, {effective:.1f}")
        rows.append([what, *cells])
        numbers[what] = {name: [stable_rank(sigma), effective_rank(sigma)] for name, sigma in own.items()}
    return rows, numbers


STUDY = Study(
    "The rank of weights and of updates",
    "The rank-deficiency of dW suggests that W could be rank-deficient as well (section 8, an open question).",
    _arms,
    _conclude,
    seeds=1,
    most_seeds=1,
)
