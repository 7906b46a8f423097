"""Preference training: direct preference optimisation (DPO, arXiv 2305.18290), on pairs of answers to one prompt.

    loss = -log sigmoid(beta ((log p(chosen) - log q(chosen)) - (log p(rejected) - log q(rejected))))         (eq. 7)

p is the model that is trained, q the reference; the log-probability of an answer is the sum over its tokens.

The reference is the model that the round started from. Where a round freezes the global update (`increments`), the
reference therefore moves with the rounds; where it trains the global update itself (`fedit`, `hetlora`), the reference
is the base. An evaluation compares the whole update with the base in either case, so under `increments` the losses of
training and of evaluation differ.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from client.data.batches import Batch
from client.data.chats.chat import read_answers
from client.data.chats.tokens import chat_tokens
from client.data.layouts import answers_layout, has_messages
from client.data.row_checks import read_each, require_columns
from client.data.rows import Row, by_line, column_names
from client.data.tokens import IGNORE, Example, Tokens, cut_examples, joined_tokens
from client.objectives.base import Measured, Model, Objective
from client.objectives.causal_lm import collate_rows, next_tokens
from client.objectives.layout_tokens import unread_notes
from client.objectives.scores import Accuracy, Sums
from common.errors import ConfigError

Answers = tuple[Tokens, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """A prompt with the answer that was chosen, and with the one that was rejected; its length is the larger one."""

    chosen: Example
    rejected: Example

    @property
    def cut(self) -> int:
        """Number of tokens by which the longer of the two was longer than `max_length`."""
        return max(self.chosen.cut, self.rejected.cut)

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class PairsRight(Accuracy):
    """The share of right pairs, by margins (n,); a tie, as with no update at all, is half a right one."""

    def sums(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Return the numbers of right pairs and of all (2,)."""
        right = (outputs > 0).sum().item() + (outputs == 0).sum().item() / 2
        return np.array([right, len(outputs)], np.float64)


class Preference(Objective):
    """The loss of DPO. A pair is right if its chosen answer gained more than its rejected one on the reference."""

    metric = PairsRight()

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Pair, ...]:
        """Encode the prompt with each of its answers, as a prompt and a completion, or as chats if these are messages.

        Raises:
            ConfigError: the two answers are one column.
            DataError: a column is missing, or a row cannot be used.
        """
        data = self.data
        if data.chosen == data.rejected:
            raise ConfigError(
                f"chosen and rejected both name the column {data.chosen!r} (in a recipe: [data]); name two columns"
            )
        tokens = self._chats(rows, tokenizer, file) or self._texts(rows, tokenizer, file)
        chosen, rejected = (cut_examples(rows, each, data.max_length, file) for each in tokens)
        return tuple(map(Pair, chosen, rejected))

    def _texts(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> Iterable[Answers]:
        data = self.data
        require_columns(file, column_names(rows), prompt=data.prompt, chosen=data.chosen, rejected=data.rejected)
        return (joined_tokens(rows, tokenizer, file, data.prompt, each) for each in (data.chosen, data.rejected))

    def _chats(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> Iterable[Answers]:
        """Return nothing for rows whose answers are no messages."""
        data = self.data
        if not has_messages(rows, answers_layout(data)):
            return ()
        require_columns(file, column_names(rows), chosen=data.chosen, rejected=data.rejected)
        columns = data.prompt, data.chosen, data.rejected
        pairs = read_each(file, by_line(rows), lambda row: read_answers(row.fields, *columns))
        lines = [row.line for row in rows]
        both = ([pair[n] for pair in pairs] for n in (0, 1))
        fold = data.system == "fold"
        return [chat_tokens([*zip(lines, chats, strict=True)], tokenizer, file, fold) for chats in both]

    def notes(self, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return what is told of columns that ask too, and are not read."""
        data = self.data
        return tuple(unread_notes((data.prompt, data.chosen, data.rejected), columns))

    def collate(self, examples: Sequence[Pair], pad_id: int) -> Batch:
        """Make a batch (n, 2, t) of chosen and rejected; a pair's rows are neighbours, so they share a lane."""
        flat = collate_rows(list(chain.from_iterable((pair.chosen, pair.rejected) for pair in examples)), pad_id)
        return Batch(*(each.view(len(examples), 2, -1) for each in (flat.input_ids, flat.attention_mask, flat.targets)))

    def count(self, batch: Batch) -> int:
        """Return the number of pairs."""
        return len(batch)

    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the loss, and by how much the chosen answer of each pair gained more (n,)."""
        places, targets = next_tokens(batch)
        # First the reference, whose logits are then gone when the model's activations are kept for the gradient.
        reference = _log_probabilities(model.reference(batch, places), targets)
        gain = (_log_probabilities(model(batch, places), targets) - reference).view(-1, 2)
        margin = gain[:, 0] - gain[:, 1]
        return Measured(-F.logsigmoid(self.data.beta * margin).sum(), margin.detach())


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed log-probability (r,) of each row's targets (r, p), by logits (r, p, V), in float32."""
    each = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none", ignore_index=IGNORE)
    return -each.view_as(targets).sum(-1)
