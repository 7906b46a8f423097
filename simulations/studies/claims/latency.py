"""What a merged adapter costs in time (arXiv 2106.09685, section 3 and table 1)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from client.data.batches import Batch
from client.model.base_model import BaseModel
from client.model.lora import Lora, merge
from client.model.targets import find_targets
from client.training.adapted_model import AdaptedModel
from common.adapters.adapter import Adapter, Factors
from simulations.bench.measure import seconds_in_turn
from simulations.studies.engine.estimate import Estimate, median
from simulations.studies.engine.figures import bars
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study
from simulations.studies.methods.attached import Attached, Method, attach
from simulations.studies.methods.bottleneck import Bottleneck
from simulations.studies.methods.low_rank import LowRank

RANK = 8
BASE, MERGED = "base", "LoRA, merged"
UNMERGED: Mapping[str, Method] = {
    "LoRA, unmerged": LowRank(RANK),
    "adapter H": Bottleneck(16, "H"),
    "adapter L": Bottleneck(16, "L"),
}
BATCHES, TOKENS, REPETITIONS = (1, 16, 32), 128, 30
QUICK_BATCHES, QUICK_REPETITIONS = (1,), 5
NOISE = 0.02
"""A difference that is taken for noise."""


def _arms(setting: Setting) -> Sequence[Arm]:
    return []


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    batches, repetitions = (QUICK_BATCHES, QUICK_REPETITIONS) if setting.quick else (BATCHES, REPETITIONS)
    ratios = {count: _ratios(setting, count, repetitions) for count in batches}
    rows = [[name, *(str(ratios[count][name]) for count in batches)] for name in ratios[batches[0]]]
    merged = [each[MERGED] for each in ratios.values()]
    held = _held(merged)
    slowest = max(each.mean for own in ratios.values() for name, each in own.items() if name not in (BASE, MERGED))
    text = (
        f"A merged adapter takes {', '.join(map(str, merged))} of the base's time at batches of "
        f"{', '.join(map(str, batches))} rows of {_tokens(setting.base)} tokens, each the median ratio of "
        f"{repetitions} pairs in turn; within {NOISE:.0%} of 1 is noise. What is not merged takes up to {slowest:.2f}. "
        f"{_of_switches(setting.base, repetitions)}"
    )
    drawn = {f"{name}, batch {count}": each for count, own in ratios.items() for name, each in own.items()}
    draw = partial(bars, found=drawn, label="time / time of the base")
    return Findings(["", *(f"batch {count}" for count in batches)], rows, held, text, draw)


def _held(merged: Sequence[Estimate]) -> bool | None:
    """Return whether no batch takes longer than noise; None where an interval leaves it open."""
    if any(each.low > 1 + NOISE for each in merged):
        return False
    return True if all(each.high <= 1 + NOISE for each in merged) else None


def _ratios(setting: Setting, count: int, repetitions: int) -> Mapping[str, Estimate]:
    """Return the time of each against the base's, pair by pair."""
    base, works = setting.base, dict[str, Callable[[], object]]()
    rng = torch.Generator().manual_seed(count)
    words = base.model.config.get_text_config().vocab_size
    ids = torch.randint(min(10, words - 1), min(200, words), (count, _tokens(base)), generator=rng).to(base.device)
    batch = Batch(ids, torch.ones_like(ids), ids)
    for name, model in _models(setting, base).items():
        works[name] = partial(_forward, model, batch)
    seconds = {name: np.array(values) for name, values in seconds_in_turn(works, repetitions).items()}
    return {name: median(list(values / seconds[BASE])) for name, values in seconds.items()}


def _of_switches(base: BaseModel, repetitions: int) -> str:
    low_rank, all_linear = LowRank(RANK).targets(base), find_targets(base, "all-linear")
    few, most = (_milliseconds_of_a_switch(base, names, repetitions) for names in (low_rank, all_linear))
    return (
        f"From one merged adapter of r = {RANK} to another, in place and without loading the base, it is {few} ms for "
        f"the {len(low_rank)} modules of query and value, and {most} ms for all {len(all_linear)} linear ones."
    )


def _milliseconds_of_a_switch(base: BaseModel, names: Sequence[str], repetitions: int) -> Estimate:
    """Return the time from one merged adapter of these modules to another."""
    lora = Lora(base.skeleton().model, names)
    adapter = Adapter({name: _zeros(shape) for name, shape in lora.shapes.items()})
    lora.merge(adapter)
    seconds = seconds_in_turn({"": partial(lora.merge, adapter)}, repetitions)[""]
    return median([1000 * each for each in seconds])


def _zeros(shape: tuple[int, int]) -> Factors:
    (d, k), r = shape, min(RANK, *shape)
    return Factors(np.zeros((r, k), "f4"), np.zeros((d, r), "f4"))


def _models(setting: Setting, base: BaseModel) -> Mapping[str, AdaptedModel]:
    settings = setting.recipe().lora
    unmerged = {name: attach(method, base, settings, 1) for name, method in UNMERGED.items()}
    plain, merged = (attach(LowRank(RANK), base, settings, 1) for _ in range(2))
    plain.model.lora.detach()
    merged.model.lora.detach()
    merge(merged.model.base.model, merged.adapter)
    for each in unmerged.values():
        each.model.lora.lanes = [each.lane]
    return {BASE: plain.model, MERGED: merged.model} | {name: _of(each) for name, each in unmerged.items()}


def _of(attached: Attached) -> AdaptedModel:
    return attached.model


@torch.no_grad()
def _forward(model: AdaptedModel, batch: Batch) -> None:
    model(batch)
    if model.base.device.type == "cuda":
        torch.cuda.synchronize(model.base.device)


def _tokens(base: BaseModel) -> int:
    return min(TOKENS, base.positions or TOKENS)


STUDY = Study(
    "Latency",
    "A merged LoRA adds no inference latency compared to a fine-tuned model, by construction, while adapter layers add "
    "up to 30 % in small batches (sections 3 and 4.1, table 1; GPT-2 medium).",
    _arms,
    _conclude,
    seeds=1,
    most_seeds=1,
)
