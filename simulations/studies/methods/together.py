"""LoRA beside another method on the same base (arXiv 2106.09685, appendix E: LoRA+PE and LoRA+PL)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from client.model.base_model import BaseModel
from client.model.lora import Lane
from common.adapters.adapter import Shapes
from common.settings.recipe import LoraSettings
from simulations.studies.methods.attached import Method
from simulations.studies.methods.low_rank import LowRank
from simulations.studies.methods.prefix import Prefix


@dataclass(frozen=True)
class Together:
    """Both at once: what they train is trained together."""

    low_rank: LowRank
    other: Method

    def targets(self, base: BaseModel) -> tuple[str, ...]:
        """Return LoRA's."""
        return self.low_rank.targets(base)

    def put(
        self, base: BaseModel, shapes: Shapes, settings: LoraSettings, seed: int
    ) -> tuple[Sequence[nn.Parameter], Lane]:
        """Put both on the model."""
        own, lane = self.low_rank.put(base, shapes, settings, seed)
        return [*own, *self.other.put(base, {}, settings, seed)[0]], lane


def inserted_tokens(method: Method) -> int:
    """Return the tokens that a method inserts into each row."""
    if isinstance(method, Together):
        return inserted_tokens(method.other)
    return method.prefix + method.infix if isinstance(method, Prefix) else 0
