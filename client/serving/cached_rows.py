"""Rows that are being continued, each under its own adapter: one forward pass with keys and values kept.

Rows are aligned on the right: those that are shorter than the longest have padding before them, which the mask hides
and positions do not count. So rows of any length can join and leave between two tokens.
"""

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from textwrap import shorten

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from client.model.base_model import BaseModel
from client.model.lora import Lane, Lora, adaptable_shapes
from common.errors import ModelError


@dataclass(frozen=True, eq=False)
class CachedRows:
    """n rows of at most t tokens.

    Args:
        lanes: (n,), of each row.
        mask: (n, t), 1 on a row's own tokens.
        cache: keys and values (n, heads, t, width) of each layer.
    """

    lanes: tuple[Lane, ...]
    mask: Tensor
    cache: DynamicCache


class LaneModel:
    """A skeleton of the base, with adapters on every module that can have one; for one thread."""

    def __init__(self, base: BaseModel) -> None:
        """Attach to the base, whose tensors stay as they are."""
        self.base = base.skeleton()
        self.lora = Lora(self.base.model, adaptable_shapes(self.base.model))
        self._accepted = inspect.signature(self.base.model.forward).parameters

    def check(self) -> None:
        """Let rows of two lengths begin, join, leave and go on, as they do later.

        Raises:
            ModelError: the model keeps a state that is not keys and values, or takes none.
        """
        if getattr(self.base.model, "_is_stateful", False):
            raise ModelError(
                f"{self.base.folder} keeps a recurrent state; serve and evaluate --metrics need a model of attention "
                "layers"
            )
        try:
            rows = join(*(self.begin([prompt], [Lane()])[0] for prompt in ([0], [0, 0])))
            self.extend(select(rows, [1, 0]), [0, 0])
        except (ValueError, RuntimeError, AttributeError, TypeError, IndexError, NotImplementedError) as error:
            reason = shorten(str(error), 200, placeholder=" ...")
            raise ModelError(
                f"{self.base.folder}, a {self.base.model.config.model_type}, cannot continue several texts at once: "
                f"{reason}; serve needs a model of attention layers; use `fedlora generate`, or merge the run"
            ) from error

    def set_lanes(self, lanes: Sequence[Lane]) -> None:
        """Give each row of the next pass its lane; rows of one lane are fastest side by side."""
        groups = [list(rows) for _, rows in groupby(lanes, key=id)]
        self.lora.lanes, self.lora.rows = [rows[0] for rows in groups], [len(rows) for rows in groups]

    def begin(self, prompts: Sequence[Sequence[int]], lanes: Sequence[Lane]) -> tuple[CachedRows, Tensor]:
        """Return n new rows, and the logits (n, V) of the token after each."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + [*prompt] for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        rows = CachedRows(tuple(lanes), mask.to(self.base.device), DynamicCache())
        return rows, self._logits(rows, ids.to(self.base.device))

    def extend(self, rows: CachedRows, tokens: Sequence[int]) -> tuple[CachedRows, Tensor]:
        """Add a token to each of n rows; return them, and the logits (n, V) of the next one. The old rows are gone."""
        ids = torch.tensor(tokens, device=self.base.device)[:, None]
        longer = CachedRows(rows.lanes, torch.cat([rows.mask, torch.ones_like(rows.mask[:, :1])], 1), rows.cache)
        return longer, self._logits(longer, ids)

    @torch.no_grad()
    def _logits(self, rows: CachedRows, ids: Tensor) -> Tensor:
        self.set_lanes(rows.lanes)
        positions = (rows.mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        few = {"position_ids": positions, "logits_to_keep": 1}  # V is large: only the last logits are needed
        accepted = {name: value for name, value in few.items() if name in self._accepted}
        with self._autocast():
            out = self.base.model(
                input_ids=ids, attention_mask=rows.mask, past_key_values=rows.cache, use_cache=True, **accepted
            )
        logits: Tensor = out.logits[:, -1].float()
        return logits

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = self.base.model.dtype
        return torch.autocast(self.base.device.type, dtype, enabled=dtype != torch.float32)


def join(one: CachedRows, other: CachedRows) -> CachedRows:
    """Return the rows of both."""
    longest = max(one.mask.shape[1], other.mask.shape[1])
    layers = zip(one.cache, other.cache, strict=True)
    pairs = [
        (_join(keys, more_keys, longest), _join(values, more_values, longest))
        for (keys, values, _), (more_keys, more_values, _) in layers
    ]
    masks = [F.pad(rows.mask, (longest - rows.mask.shape[1], 0)) for rows in (one, other)]
    return CachedRows(one.lanes + other.lanes, torch.cat(masks), DynamicCache(pairs))


def _join(one: Tensor | None, other: Tensor | None, longest: int) -> Tensor | None:
    """Return the keys or values of both; None in a layer that shares those of another."""
    if one is None or other is None:
        return None
    return torch.cat([F.pad(each, (0, 0, longest - each.shape[2], 0)) for each in (one, other)])


def select(rows: CachedRows, kept: Sequence[int]) -> CachedRows:
    """Return at least one of the rows, in this order, without padding that none of them needs."""
    index = torch.tensor(kept, device=rows.mask.device)
    mask = rows.mask[index]
    start = mask.shape[1] - int(mask.sum(1).max())
    pairs = [(_select(keys, index, start), _select(values, index, start)) for keys, values, _ in rows.cache]
    return CachedRows(tuple(rows.lanes[place] for place in kept), mask[:, start:], DynamicCache(pairs))


def _select(states: Tensor | None, index: Tensor, start: int) -> Tensor | None:
    return None if states is None else states[index, :, start:]
