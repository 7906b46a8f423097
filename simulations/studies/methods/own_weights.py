"""Methods that train weights of the model itself: all of them, or biases alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from client.model.base_model import BaseModel
from client.model.lora import Lane
from common.adapters.adapter import Shapes
from common.errors import ModelError
from common.settings.recipe import LoraSettings
from simulations.studies.methods.attached import own_parameters


@dataclass(frozen=True)
class OwnWeights:
    """Full fine-tuning; or BitFit, which trains biases alone (Ben Zaken et al. 2021), those of layer norms with them.

    Args:
        biases: train biases alone.
    """

    biases: bool = False

    def targets(self, base: BaseModel) -> tuple[str, ...]:
        """Return nothing: it has no A and B."""
        return ()

    def put(
        self, base: BaseModel, shapes: Shapes, settings: LoraSettings, seed: int
    ) -> tuple[Sequence[nn.Parameter], Lane]:
        """Replace the weights by trained copies.

        Raises:
            ModelError: the model has no biases to train.
        """
        own = self._own(base.model, {head.name for head in base.head})
        if not own:
            raise ModelError(
                f"{base.folder}, a {base.model.config.model_type}, has no biases to train; use a base that has, "
                "such as BERT or GPT-2, or another method"
            )
        return own, Lane()

    def _own(self, model: nn.Module, new: set[str]) -> list[nn.Parameter]:
        copies: dict[int, nn.Parameter] = {}  # A tensor that is tied has one.
        for name, module in list(model.named_modules()):
            if name not in new:
                self._own_of(module, copies)
        return list(copies.values())

    def _own_of(self, module: nn.Module, copies: dict[int, nn.Parameter]) -> None:
        for name in self._names(module):
            held = getattr(module, name)
            if id(held) not in copies:
                copies[id(held)] = own_parameters(module, (name,))[0]
            else:
                setattr(module, name, copies[id(held)])

    def _names(self, module: nn.Module) -> Iterable[str]:
        names = [name for name, each in module.named_parameters(recurse=False)]
        return [name for name in names if name == "bias"] if self.biases else names
