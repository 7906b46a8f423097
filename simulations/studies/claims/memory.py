"""What training and storing costs (arXiv 2106.09685, section 4.2 and table 4): measured, and the sums for GPT-3."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice

import torch
from safetensors.torch import save

from client.data.batches import Batch
from client.model.lora import Lane
from client.objectives.base import Objective
from client.training.train import backward, node_batches, optimizer_step
from simulations.bench.measure import peak_growth, run_in_fresh_process
from simulations.studies.claims.accuracy.baselines import FULL, LORA
from simulations.studies.engine.central import NAME
from simulations.studies.engine.estimate import estimate
from simulations.studies.engine.figures import bars
from simulations.studies.engine.setting import Setting
from simulations.studies.engine.study import Arm, Findings, Outcomes, Study
from simulations.studies.engine.trial import central_training
from simulations.studies.measures.parameters import gpt3
from simulations.studies.methods.attached import Attached, Method, attach
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.own_weights import OwnWeights

METHODS: Mapping[str, Method] = {LORA: LowRank(8), FULL: OwnWeights()}
MB, STEPS = 1e6, 3


@dataclass(frozen=True)
class Cost:
    """What one method costs, in bytes but for the first.

    Args:
        parameters: trained, with a new head.
        optimizer: state of AdamW.
        checkpoint: what is stored of one task, as safetensors.
        weights: of the frozen and the trained numbers.
        peak: the weights, and the most that steps add to this process or, on a GPU, to its memory.
    """

    parameters: int
    optimizer: int
    checkpoint: int
    weights: int
    peak: int


def cost(setting: Setting, name: str) -> Cost:
    """Measure a method; meant for a process of its own."""
    torch.set_num_threads(1)
    recipe, nodes = setting.recipe(), setting.nodes()
    node = next(iter(nodes.nodes.values()))
    warm = attach(METHODS[LORA], node.base, recipe.lora, 1)
    passes = list(islice(node_batches(node.train, NAME, central_training(recipe), node.base.device), STEPS))
    objective = node.train.objective
    _steps(warm, objective, passes[:1])  # Imports what is imported on first use.
    attached = attach(METHODS[name], node.base, recipe.lora, 1)
    optimizers: list[torch.optim.Optimizer] = []
    growth = _growth(lambda: optimizers.append(_steps(attached, objective, passes)), node.base.device)
    trained = [*attached.own, *attached.head]
    state = [each for held in optimizers[0].state.values() for each in held.values() if isinstance(each, torch.Tensor)]
    weights = {id(p): p.nbytes for p in (*attached.model.base.model.parameters(), *trained)}
    stored = save({str(number): each.detach().cpu() for number, each in enumerate(trained)})
    numbers = sum(each.numel() for each in trained)
    optimizer = sum(each.nbytes for each in state)
    return Cost(numbers, optimizer, len(stored), sum(weights.values()), sum(weights.values()) + growth)


def _steps(attached: Attached, objective: Objective, passes: Sequence[Batch]) -> torch.optim.Optimizer:
    parameters = [*attached.own, *attached.head]
    optimizer, scaler = torch.optim.AdamW(parameters, weight_decay=0.0), torch.amp.GradScaler("cpu", enabled=False)
    for batch in passes:
        backward(attached.model, objective, [batch], [Lane(attached.lane.trained)], scaler)
        optimizer_step(optimizer, scaler, parameters, 1e-4, 1.0)
    return optimizer


def _growth(work: Callable[[], object], device: torch.device) -> int:
    if device.type != "cuda":
        return peak_growth(work)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def _arms(setting: Setting) -> Sequence[Arm]:
    return []


def _conclude(setting: Setting, found: Outcomes) -> Findings:
    costs = {name: run_in_fresh_process(cost, setting, name) for name in METHODS}
    lora, full = costs[LORA], costs[FULL]
    ratios = {name: getattr(full, name) / getattr(lora, name) for name in asdict(lora)}
    rows = [
        [name, _spell(name, getattr(lora, name)), _spell(name, getattr(full, name)), f"{ratio:.1f}"]
        for name, ratio in ratios.items()
    ]
    rows += [row for rank in (4, 8) for row in _of_gpt3(rank)]
    whole, low = gpt3(4)
    text = (
        f"On this base LoRA (r = 8, q and v) trains {ratios['parameters']:.0f} times fewer parameters, stores "
        f"{ratios['checkpoint']:.0f} times fewer bytes and needs {ratios['peak']:.2f} times less memory in training; a "
        f"small model has less to save{', and its new head is trained by both' * bool(setting.base.head)}. The paper's "
        "sums for GPT-3 175B hold: "
        f"checkpoints of {whole.checkpoint / 1e9:.0f} GB and {low.checkpoint / 2**20:.0f} MiB at r = 4 are "
        f"{whole.checkpoint / low.checkpoint:,.0f} times apart, and weights with their moments "
        f"{whole.held / low.held:.2f} times, since frozen weights have none."
    )
    held = bool(abs(whole.held / low.held - 3) < 0.1 and whole.checkpoint / low.checkpoint > 9000)
    drawn = {name: estimate([ratio]) for name, ratio in ratios.items() if name != "weights"}
    draw = partial(bars, found=drawn, label="full fine-tuning / LoRA")
    return Findings(["", LORA, FULL, "ratio"], rows, held, text, draw, {n: asdict(each) for n, each in costs.items()})


def _of_gpt3(rank: int) -> list[list[str]]:
    whole, low = gpt3(rank)
    pairs = {"checkpoint": (low.checkpoint, whole.checkpoint), "weights and moments": (low.held, whole.held)}
    return [
        [f"GPT-3 175B, r = {rank}, float16: {name}", _spell(name, a), _spell(name, b), f"{b / a:,.1f}"]
        for name, (a, b) in pairs.items()
    ]


def _spell(name: str, number: int) -> str:
    return f"{number:,}" if name == "parameters" else f"{number / MB:,.1f} MB"


STUDY = Study(
    "Memory and storage",
    "Compared with GPT-3 175B fine-tuned with Adam, LoRA can reduce the number of trainable parameters by 10,000 times "
    "and the GPU memory by 3 times (abstract, section 4.2: a checkpoint of 35 MB in place of 350 GB at r = 4).",
    _arms,
    _conclude,
    seeds=1,
    most_seeds=1,
)
