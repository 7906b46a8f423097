"""A base model with a method on it, as the training loop of the studies takes it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from client.model.base_model import BaseModel
from client.model.lora import Lane, Lora
from client.training.adapted_model import AdaptedModel
from common.adapters.adapter import Adapter, Array, Factors, Shapes
from common.settings.recipe import LoraSettings


@dataclass(frozen=True, eq=False)
class Attached:
    """A model of its own module objects, and what is trained of it; all else shares the base's tensors, frozen.

    Args:
        model: as an objective calls it.
        own: parameters of the method; its count is theirs.
        head: those of a new classification head, which every method trains whole.
        lane: adapters A and B; none where the method is another.
    """

    model: AdaptedModel
    own: tuple[nn.Parameter, ...]
    head: tuple[nn.Parameter, ...]
    lane: Lane

    @property
    def count(self) -> int:
        """Trained parameters without the head, as the paper counts them."""
        return sum(each.numel() for each in self.own)

    @property
    def adapter(self) -> Adapter:
        """(s B, A) of each module; empty where the method is another."""
        trained = self.lane.trained.items()
        return Adapter({name: Factors(_array(each.a), _array(each.b) * each.scaling) for name, each in trained})


class Method(Protocol):
    """A way to adapt a base."""

    def targets(self, base: BaseModel) -> tuple[str, ...]:
        """Return the modules that get A and B.

        Raises:
            ModelError: the architecture has none of them; names what would work.
        """
        ...

    def put(
        self, base: BaseModel, shapes: Shapes, settings: LoraSettings, seed: int
    ) -> tuple[Sequence[nn.Parameter], Lane]:
        """Put the method on a model of its own module objects; return what it trains, and its adapters.

        At its start it changes no logit but by tokens that it inserts.

        Args:
            base: the model.
            shapes: (d, k) of the targets.
            settings: scale and dropout of adapters.
            seed: of what is drawn.

        Raises:
            ModelError: the architecture has no place for it; names what would work.
        """
        ...


def attach(method: Method, base: BaseModel, settings: LoraSettings, seed: int) -> Attached:
    """Return a model with the method on it, and raise as the method does."""
    skeleton = base.skeleton()
    lora = Lora(skeleton.model, method.targets(base))
    own, lane = method.put(skeleton, lora.shapes, settings, seed)
    return Attached(AdaptedModel(skeleton, lora), tuple(own), train_head(skeleton), lane)


def train_head(base: BaseModel) -> tuple[nn.Parameter, ...]:
    """Let the new head of a model of its own module objects be trained, and return its parameters."""
    modules: Mapping[str, nn.Module] = dict(base.model.named_modules())
    return tuple(each for head in base.head for each in own_parameters(modules[head.name], ("weight", "bias")))


def own_parameters(module: nn.Module, names: Iterable[str]) -> list[nn.Parameter]:
    """Replace those parameters of a module that it has by trained copies in float32, and return the copies."""
    held = {name: getattr(module, name, None) for name in names}
    for name, each in held.items():
        if each is not None:
            setattr(module, name, nn.Parameter(each.detach().float().clone()))
    return [getattr(module, name) for name, each in held.items() if each is not None]


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy().copy()  # Else it would be a view of what is trained on.
