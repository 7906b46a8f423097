"""Classification of texts: one label a row, cross-entropy, accuracy."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from client.data.batches import Batch, pad
from client.data.frame import unframed
from client.data.labels import read_label
from client.data.row_checks import read_each, read_text, require_columns
from client.data.rows import Row, by_line, column_names
from client.data.tokens import Example, text_ids
from client.objectives.base import Measured, Model, Objective
from client.objectives.scores import Accuracy, Metric
from common.errors import ConfigError


class Classification(Objective):
    """Cross-entropy of each row's label; its place among the labels is its number."""

    metric: ClassVar[Metric | None] = Accuracy()

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Example, ...]:
        """Encode text and label of each row."""
        data = self.data
        require_columns(file, column_names(rows), text=data.text, label=data.label)
        if not data.labels:
            raise ConfigError("labels is empty; set it to every label of the task, in the same order on every node")
        if data.max_length <= (special := tokenizer.num_special_tokens_to_add()):
            raise ConfigError(
                f"max_length = {data.max_length} has room only for the tokenizer's {special} special tokens; raise it"
            )
        read = read_each(
            file,
            by_line(rows),
            lambda row: (read_text(row.fields, data.text), self.read_target(row.fields)),
        )
        texts = unframed(tokenizer, [text for text, _ in read])
        whole = text_ids(tokenizer, texts, verbose=False)
        long = [text for text, ids in zip(texts, whole, strict=True) if len(ids) > data.max_length]
        cut = iter(text_ids(tokenizer, long, truncation=True, max_length=data.max_length))
        kept = [next(cut) if len(ids) > data.max_length else ids for ids in whole]
        return tuple(
            Example(np.array(ids, np.int32), label, cut=len(all_ids) - len(ids))
            for ids, all_ids, (_, label) in zip(kept, whole, read, strict=True)
        )

    def read_target(self, fields: Mapping[str, Any]) -> Any:
        """Return the number of the row's label.

        Raises:
            BadRow: it has none of the labels.
        """
        return read_label(fields, self.data.label, self.data.labels)

    def label_texts(self, fields: Mapping[str, Any]) -> Iterable[str]:
        """Return the label of a row if that is a text."""
        return (value,) if isinstance(value := fields.get(self.data.label), str) else ()

    def targets(self, targets: list[Any]) -> Tensor:
        """Return int64 (n,)."""
        return torch.tensor(targets, dtype=torch.int64)

    def collate(self, examples: Sequence[Example], pad_id: int) -> Batch:
        """Make a batch with a target for each row."""
        ids = [each.ids for each in examples]
        targets = self.targets([each.targets for each in examples])
        return Batch(pad(ids, pad_id), pad([np.ones_like(row) for row in ids], 0), targets)

    def count(self, batch: Batch) -> int:
        """Return the number of rows."""
        return len(batch)

    def measure(self, model: Model, batch: Batch) -> Measured:
        """Return the cross-entropy, and the logits (n, C)."""
        logits = model(batch)
        return Measured(F.cross_entropy(logits.float(), batch.targets, reduction="sum"), logits.detach())
