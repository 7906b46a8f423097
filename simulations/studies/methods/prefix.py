"""Prefix tuning: trained embeddings of inserted tokens, or their trained activations after every layer.

Li & Liang 2021, in the two forms of arXiv 2106.09685, section 5.1: prefix-embedding has d (l_p + l_i) parameters, and
prefix-layer L d (l_p + l_i).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client.model.base_model import BaseModel
from client.model.lora import Lane
from common.adapters.adapter import Shapes
from common.errors import ModelError
from common.seeding import rng
from common.settings.recipe import LoraSettings
from common.settings.tasks import TASKS
from simulations.studies.methods.places import layers

STD = 0.02


@dataclass(frozen=True)
class Prefix:
    """Tokens that are inserted into every row.

    An encoder gets the prefix behind its first token, at which it classifies; a decoder before its first.

    Args:
        prefix: l_p, tokens before the row.
        infix: l_i, tokens behind it; for an encoder.
        layers: train their activations after every layer too, which replace those that are computed.
    """

    prefix: int
    infix: int = 0
    layers: bool = False

    def targets(self, base: BaseModel) -> tuple[str, ...]:
        """Return nothing: it has no A and B."""
        return ()

    def put(
        self, base: BaseModel, shapes: Shapes, settings: LoraSettings, seed: int
    ) -> tuple[Sequence[nn.Parameter], Lane]:
        """Let the model, and its layers, get the tokens.

        Raises:
            ModelError: a decoder classifies at the last token of a row that it knows by its ids, or has an infix.
        """
        encoder = not TASKS[base.task].causal
        self._check(base, encoder)
        modules, places = dict(base.model.named_modules()), list(layers(base))[:-1] if self.layers else []
        width = base.model.config.get_text_config().hidden_size
        values = _start(base.model, (len(places), self.prefix + self.infix, width), seed)
        words, hidden = (nn.Parameter(each.to(base.device)) for each in values)
        inserted = _Inserted(base.model, words, hidden, self.prefix, encoder)
        base.model.register_forward_pre_hook(inserted.before, with_kwargs=True)
        base.model.register_forward_hook(inserted.behind)
        for number, place in enumerate(places, 1):
            modules[place].register_forward_hook(inserted.after(number))
        return [words, *([hidden] if places else [])], Lane()

    def _check(self, base: BaseModel, encoder: bool) -> None:
        if encoder and any(name == "score" for name, _ in base.model.named_children()):
            raise ModelError(
                f"{base.folder}, a {base.model.config.model_type}, classifies at the last token of a row, which it "
                'finds by ids that inserted tokens do not have; use an encoder, such as BERT, or task = "causal-lm"'
            )
        if self.infix and not encoder:
            raise ModelError("a language model has no end of the prompt to put an infix at; set infix = 0")


class _Inserted:
    """Tokens in a row, and where they are in the rows of the running pass."""

    def __init__(self, model: Any, words: Tensor, hidden: Tensor, prefix: int, encoder: bool) -> None:
        self._model, self._words, self._hidden, self._prefix, self._encoder = model, words, hidden, prefix, encoder
        self._own = self._number = torch.zeros(0)
        self._sliced = False

    def before(self, module: nn.Module, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Insert the tokens into a batch of ids (r, t)."""
        ids, mask = given.pop("input_ids"), given["attention_mask"]
        order = self._order(mask)
        rows = order.unsqueeze(-1)
        first = self._words.expand(len(ids), -1, -1)
        embedded = torch.cat([first, self._model.get_input_embeddings()(ids)], 1)
        ones = mask.new_ones(len(ids), len(self._words))
        self._own, self._number = order < ones.shape[1], order.clamp(max=ones.shape[1] - 1)
        given["inputs_embeds"] = embedded.gather(1, rows.expand(-1, -1, embedded.shape[-1]))
        given["attention_mask"] = torch.cat([ones, mask], 1).gather(1, order)
        if "logits_to_keep" in given:
            given["logits_to_keep"] = given["logits_to_keep"] + ones.shape[1]
        self._sliced = "logits_to_keep" not in given
        return args, given

    def behind(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Leave out the logits of a language model at the inserted tokens."""
        if not self._encoder and self._sliced:
            output.logits = output.logits[:, len(self._words) :]
        return output

    def after(self, number: int) -> Any:
        """Return a hook that replaces what layer `number` computes at the inserted tokens."""

        def replace(module: nn.Module, inputs: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            own = self._hidden[number - 1][self._number].to(hidden.dtype)
            replaced = torch.where(self._own.unsqueeze(-1), own, hidden)
            return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

        return replace

    def _order(self, mask: Tensor) -> Tensor:
        """Return the place of each token of the result in [inserted, row]: (r, l + t).

        First what comes before the prefix, then prefix, row, infix, and padding.
        """
        count = len(self._words)
        own = [1] * self._prefix + [3] * (count - self._prefix)
        kinds = torch.where(mask > 0, 2, 4)
        if self._encoder:
            kinds[:, 0] = 0
        first = torch.tensor(own, device=mask.device).expand(len(mask), -1)
        return torch.cat([first, kinds], 1).argsort(dim=1, stable=True)


def _start(model: Any, shape: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Return embeddings of words that are drawn (l, e), and small activations behind n layers: `shape` (n, l, d)."""
    words = model.get_input_embeddings().weight.detach()
    draws = rng(seed, "prefix")
    chosen = words[torch.tensor(draws.integers(len(words), size=shape[1]))].float().cpu()
    return chosen, torch.tensor(draws.standard_normal(shape, dtype=np.float32) * np.float32(STD))
