"""The energy of each module's gradient on a node's first batches, by which a federation gives ranks to modules.

    G = dL / dW0 (d, k)      of LoRA at B = 0 the gradient by B is G A^T, and with Gaussian rows of A of variance 1 / k
    E ||G A^T||^2 = (p / k) ||G||^2

So p random rows tell ||G||^2 with the hooks of LoRA alone, whatever holds W0, and no (d, k) gradient is ever in memory.
A new classification head is zero and lets no gradient through; it is trained on the same batches before, and forgotten.
"""

from collections.abc import Mapping
from math import sqrt

import numpy as np

from client.model.base_model import BaseModel
from client.model.lora import Lora
from client.model.quantised import count_numbers
from client.objectives.examples import Examples
from client.training.train import train
from common.adapters.adapter import Adapter, Factors, Shapes
from common.adapters.joined import stack_adapters
from common.planning.requests import clip_energies
from common.protocol.assignment import Assignment, Training
from common.seeding import rng

ROWS = 16
"""Random rows of A, p."""


def module_energies(
    base: BaseModel, lora: Lora, update: Adapter, examples: Examples, name: str, training: Training
) -> Mapping[str, float]:
    """Return ||G||^2 of the mean gradient by each module but a new head, clipped together, in order of name.

    Args:
        base: the frozen model.
        lora: adapters attached to it, of the modules of `update`; its lanes are overwritten.
        update: the global update, under which gradients are computed.
        examples: of the node; its first batches are read.
        name: of the node; it keys the order of its rows.
        training: batches, and the rate of a new head.

    Raises:
        ModelError: a loss is not finite.
    """
    head = {module.name for module in base.head} & lora.shapes.keys()
    frozen = _with_head(base, lora, update, head, examples, name, training)
    start = _random_start({each: shape for each, shape in lora.shapes.items() if each not in head}, training.seed)
    (found,) = train(base, lora, [Assignment(frozen, start, "b", returns="gradient")], [name], [examples], training)
    energies = [_energy(factors) for _, factors in sorted(found.adapter.items())]
    return dict(zip(sorted(found.adapter), clip_energies(energies), strict=True))


def base_parameters(base: BaseModel) -> int:
    """Return the number of the base model's parameters without a new head, whatever bits hold them."""
    new = sum(count_numbers(base.model.get_submodule(module.name))[0] for module in base.head)
    return count_numbers(base.model)[0] - new


def _with_head(
    base: BaseModel, lora: Lora, update: Adapter, head: set[str], examples: Examples, name: str, training: Training
) -> Adapter:
    if not head:
        return update
    start = _random_start({each: lora.shapes[each] for each in head}, training.seed, head=True)
    (trained,) = train(base, lora, [Assignment(update, start)], [name], [examples], training)
    return Adapter({**update, **stack_adapters(Adapter({each: update[each] for each in head}), trained.adapter)})


def _random_start(shapes: Shapes, seed: int, head: bool = False) -> Adapter:
    """Return random A beside B = 0; the rows of a head's are of norm sqrt(k), with which Adam learns it as fast."""
    return Adapter({name: _begin(name, *shape, seed, head) for name, shape in shapes.items()})


def _begin(name: str, d: int, k: int, seed: int, head: bool) -> Factors:
    rows = min(ROWS, d, k)
    a = rng(seed, "plan", name).standard_normal((rows, k)) * (1.0 if head else 1 / sqrt(k))
    return Factors(a.astype("f4"), np.zeros((d, rows), "f4"))


def _energy(found: Factors) -> float:
    """Return ||G||^2 as the gradient by B tells it."""
    rows, k = found.a.shape
    return float(np.sum(found.b.astype("f8") ** 2) * k / rows)
