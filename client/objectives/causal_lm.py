"""Causal language modelling: chats, prompts with completions, or texts; cross-entropy of each learned token."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from client.data.batches import Batch, pad
from client.data.layouts import find_layout, known_layouts
from client.data.rows import Row, column_names
from client.data.tokens import IGNORE, Example, Tokens, cut_examples
from client.objectives.base import Measured, Model, Objective
from client.objectives.layout_tokens import layout_notes, layout_tokens
from common.errors import DataError


class CausalLM(Objective):
    """Cross-entropy of the tokens that are learned, each predicted from those before it."""

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Example, ...]:
        """Encode each row by the first layout whose columns the file has."""
        return cut_examples(rows, self._tokens(rows, tokenizer, file), self.data.max_length, file)

    def notes(self, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return what is told of columns that belong to a known layout and are not read."""
        layout = find_layout(self.data, columns)
        return layout_notes(layout, columns, tokenizer) if layout else ()

    def _tokens(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Tokens, ...]:
        data, columns = self.data, column_names(rows)
        if layout := find_layout(data, columns):
            return layout_tokens(layout, rows, tokenizer, file, fold=data.system == "fold")
        raise DataError(
            f"{file} has the columns {', '.join(map(repr, columns))}, which contain neither chats (messages = "
            f"{data.messages!r}), nor prompts and completions (prompt = {data.prompt!r}, completion = "
            f"{data.completion!r}), nor texts (text = {data.text!r}); set these keys (in a recipe: in [data]). Known "
            f"without them are {known_layouts()}"
        )

    def collate(self, examples: Sequence[Example], pad_id: int) -> Batch:
        """Make a batch with targets (n, t)."""
        return collate_rows(examples, pad_id)

    def count(self, batch: Batch) -> int:
        """Return the number of learned tokens after the first of a row."""
        return int((batch.targets[:, 1:] != IGNORE).sum())

    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the cross-entropy; the task has no other score."""
        places, targets = next_tokens(batch)
        logits = model(batch, places).flatten(0, 1)
        return Measured(F.cross_entropy(logits.float(), targets.flatten(), reduction="sum", ignore_index=IGNORE))


def collate_rows(rows: Sequence[Example], pad_id: int) -> Batch:
    """Make a batch of rows whose targets are tokens; there is no loss on padding."""
    ids, targets = [row.ids for row in rows], [np.asarray(row.targets) for row in rows]
    return Batch(pad(ids, pad_id), pad([np.ones_like(row) for row in ids], 0), pad(targets, IGNORE))


def next_tokens(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the positions (p,) at which some of the r rows has a token to predict, and these tokens (r, p)."""
    targets = batch.targets.flatten(0, -2)[:, 1:]
    places = (targets != IGNORE).any(0).nonzero().squeeze(1)
    return places, targets[:, places]
