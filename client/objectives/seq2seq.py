"""Sequence to sequence: an encoder reads a text, a decoder writes another one; cross-entropy of each token written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from client.data.batches import Batch, pad
from client.data.chats.instructions import read_instruction
from client.data.layouts import Layout, find_layout, known_pairs
from client.data.row_checks import BadRow, read_each, read_text
from client.data.rows import Row, by_line, column_names
from client.data.tokens import IGNORE, Example
from client.objectives.base import Measured, Model, Objective
from client.objectives.layout_tokens import unread_notes
from client.objectives.source_target import Side
from common.errors import DataError

_REMEDY = (
    'give both, or train a decoder such as GPT-2 or Llama with task = "causal-lm", which learns chats and plain texts '
    "(in a recipe: [data] task)"
)


@dataclass(frozen=True, eq=False)
class SourceTarget:
    """A text that is read, and the one that is written for it; the length is the larger one's."""

    source: Example
    target: Example

    @property
    def cut(self) -> int:
        """Number of tokens by which the longer of the two was longer than `max_length`."""
        return max(self.source.cut, self.target.cut)

    def __len__(self) -> int:
        return max(len(self.source), len(self.target))


class Seq2Seq(Objective):
    """Cross-entropy of all tokens that are written, each predicted from what is read and those before it."""

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[SourceTarget, ...]:
        """Encode each row by the first layout whose columns the file has.

        Raises:
            ConfigError: max_length has no room for text.
            DataError: the rows have no two texts, or one cannot be used.
        """
        layout = self._layout(rows, file)
        texts = read_each(file, by_line(rows), lambda row: _texts(row, layout))
        limit, read, write = self.data.max_length, Side.of(tokenizer, False), Side.of(tokenizer, True)
        sources = read.examples([source for source, _ in texts], limit)
        targets = write.examples([target for _, target in texts], limit)
        numbered = zip((row.line for row in rows), map(SourceTarget, sources, targets), strict=True)
        nothing = len(write.beginning) + len(write.end)
        return read_each(file, numbered, lambda pair: _learned(pair, nothing, layout))

    def _layout(self, rows: Sequence[Row], file: Path) -> Layout:
        data, columns = self.data, column_names(rows)
        if layout := find_layout(data, columns):
            return layout
        found = next((f", a {kind}" for kind, name in _alone(data.messages, data.text) if name in columns), "")
        place = f"{file}, {getattr(rows, 'unit', 'line')} {rows[0].line}: " if len(rows) else f"{file}: "
        raise DataError(
            f'{place}task = "seq2seq" needs two texts, one to read and one to write, and the columns are '
            f"{', '.join(map(repr, columns))}{found}; name their columns by prompt = {data.prompt!r} and completion = "
            f"{data.completion!r} (in a recipe: in [data]), or {_REMEDY}. Known without these keys are {known_pairs()}"
        )

    def notes(self, columns: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
        """Return what is told of columns that belong to a known layout and are not read."""
        layout = find_layout(self.data, columns)
        return tuple(unread_notes(layout.all_columns, columns)) if layout else ()

    def collate(self, examples: Sequence[SourceTarget], pad_id: int) -> Batch:
        """Make a batch of sources (n, s) with targets (n, t), without loss on padding."""
        sources = [each.source.ids for each in examples]
        targets = pad([each.target.ids for each in examples], IGNORE)
        return Batch(pad(sources, pad_id), pad([np.ones_like(row) for row in sources], 0), targets)

    def count(self, batch: Batch) -> int:
        """Return the number of tokens that are written."""
        return int((batch.targets != IGNORE).sum())

    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the cross-entropy; no number of right tokens."""
        logits, targets = model(batch).flatten(0, 1), batch.targets.flatten()
        return Measured(F.cross_entropy(logits.float(), targets, reduction="sum", ignore_index=IGNORE))


def _alone(messages: str, text: str) -> tuple[tuple[str, str], ...]:
    chats = (("chat", name) for name in (messages, "conversations", "conversation"))
    return (*chats, ("plain text", text))


def _texts(row: Row, layout: Layout) -> tuple[str, str]:
    """Return what is read and what is written of a row."""
    asked, answer = layout.columns
    if chat := next((column for column in (asked, answer) if isinstance(row.fields.get(column), list)), None):
        raise BadRow(f"{chat!r} is a chat, and an encoder reads one text; {_REMEDY}")
    if layout.kind == "instruction":
        source = read_instruction(row.fields, asked, layout.inputs, layout.system, layout.history).plain
    else:
        source = read_text(row.fields, asked)
    return source, read_text(row.fields, answer)


def _learned(pair: SourceTarget, nothing: int, layout: Layout) -> SourceTarget:
    if len(pair.target) <= nothing:
        raise BadRow(f"{layout.columns[-1]!r} has nothing to learn but special tokens")
    return pair
