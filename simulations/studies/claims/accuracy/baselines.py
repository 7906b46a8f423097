"""The methods of the LoRA paper on one task in one table (arXiv 2106.09685, section 5, tables 2 to 4)."""

from collections.abc import Mapping, Sequence
from functools import partial

from simulations.studies.engine.estimate import Estimate, difference
from simulations.studies.engine.figures import bars
from simulations.studies.engine.outcomes import mean_of
from simulations.studies.engine.rows import COLUMNS, accuracies, method_rows
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study, rates_around, require_classes
from simulations.studies.methods.attached import Method
from simulations.studies.methods.bottleneck import Bottleneck
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.own_weights import OwnWeights
from simulations.studies.methods.prefix import Prefix
from simulations.studies.methods.together import Together

LORA, FULL = "LoRA, r = 8", "full fine-tuning"
LORA_TOO = "LoRA and"
POINT = 0.01
GRID = 0.01, 0.03, 0.1, 0.3, 1, 3
"""Of the recipe's rate: the same for every method, from what suits all weights to what suits few."""


def methods(causal: bool) -> Mapping[str, Method]:
    """Return the methods by name; in an encoder a prefix has an infix too."""
    infix = 0 if causal else 8
    return {
        FULL: OwnWeights(),
        "BitFit": OwnWeights(biases=True),
        "prefix-embedding": Prefix(16, infix),
        "prefix-layer": Prefix(16, infix, layers=True),
        "adapter H": Bottleneck(16, "H"),
        "adapter L": Bottleneck(16, "L"),
        "adapter P": Bottleneck(16, "P"),
        "adapter D": Bottleneck(16, "D"),
        "Compacter": Bottleneck(16, "P", kronecker=4),
        LORA: LowRank(8),
        "LoRA and prefix-layer": Together(LowRank(8), Prefix(16, infix, layers=True)),
    }


def _arms(setting: Setting) -> Sequence[Arm]:
    require_classes(setting, "baselines")
    rates = rates_around(setting, *GRID)
    return [Arm(name, method, rates) for name, method in methods(setting.is_causal).items() if _fits(setting, name)]


def _fits(setting: Setting, name: str) -> bool:
    """Return whether the base has what the method trains: Llama and its like have no biases."""
    return name != "BitFit" or setting.has_biases


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    means = accuracies(found)
    gaps = {name: _gap(found, name) for name in found if name != LORA}
    best = max(found, key=lambda name: mean_of(found[name]))
    share = found[LORA][0].parameters / found[FULL][0].parameters
    text = (
        f"LoRA trains {share:.2%} of the parameters and is right on {means[LORA]} of the test rows, full "
        f"fine-tuning on {means[FULL]}: a difference of {gaps[FULL]}. On a par means no more than {POINT} below. Best "
        f"of all is {best}, with {means[best]}. {_ahead(gaps)}"
        f"{'' if setting.has_biases else ' BitFit is left out, as the base has no biases.'}"
    )
    return Findings(COLUMNS, method_rows(found), _held(gaps), text, partial(bars, found=means, label="test accuracy"))


def _gap(found: Outcomes, other: str) -> Estimate:
    """Return how far LoRA is ahead of another method."""
    return difference(*([each.accuracy for each in found[name]] for name in (LORA, other)))


def _held(gaps: Mapping[str, Estimate]) -> bool | None:
    """Return whether LoRA is on a par with each of the others; LoRA beside a prefix is no other method."""
    others = [gap for name, gap in gaps.items() if LORA_TOO not in name]
    if any(gap.high < -POINT for gap in others):
        return False
    return True if all(gap.low >= -POINT for gap in others) else None


def _ahead(gaps: Mapping[str, Estimate]) -> str:
    ahead = ", ".join(f"{name} ({gap})" for name, gap in gaps.items() if gap.mean < -POINT)
    return f"More than that ahead of LoRA, by their means: {ahead}." if ahead else "None is more than that ahead of it."


STUDY = Study(
    "LoRA beside the other methods",
    "LoRA performs on a par with or better than full fine-tuning, and than adapters and prefixes, with far fewer "
    "trained parameters (sections 5.2 to 5.5, tables 2 to 4; RoBERTa, DeBERTa, GPT-2 and GPT-3).",
    _arms,
    _conclude,
)
