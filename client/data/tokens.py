"""Tokenisation of rows: token ids and training targets, by the task and the rows' layout.

A target is at the position of the id it equals (`targets[t]` is `ids[t]` or IGNORE); the loss shifts by one, so the
first never counts. A prompt and its completion are tokenised separately and joined: a space or newline between them
belongs to the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from client.data.chat import Tokens, chat_tokens
from client.data.row_checks import BadRow, read_each, read_text, require_columns
from client.data.rows import Row, column_names
from common.errors import ConfigError, DataError, nearest
from common.settings.node import Node

Ids = NDArray[np.int32]

IGNORE = -100
"""The target of a token without loss, as `torch.nn.functional.cross_entropy` ignores it by default."""


@dataclass(frozen=True, eq=False)
class Example:
    """A tokenised row: ids (t,), targets (a label's number, or (t,) with IGNORE on tokens without loss), cut flag."""

    ids: Ids
    targets: int | Ids
    cut: bool


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that pads the shorter rows of a batch.

    It may equal a real token (SmolLM2 pads with its end of text), so only the attention mask shows the padding.
    """
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(each for each in ids if each is not None)


def encode_rows(rows: Sequence[Row], node: Node, tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Example, ...]:
    """Encode the rows of this file as examples for the node's task; tokenising all texts together is fast.

    Raises:
        DataError: the file lacks the columns, the tokenizer a chat template, or rows cannot be used.
        ConfigError: the node names no labels, or its max_length has no room for text.
    """
    make = _classification if node.task == "classification" else _causal_lm
    return make(rows, node, tokenizer, file)


def _classification(
    rows: Sequence[Row], node: Node, tokenizer: PreTrainedTokenizerBase, file: Path
) -> tuple[Example, ...]:
    require_columns(file, column_names(rows), text=node.text, label=node.label)
    if not node.labels:
        raise ConfigError("labels is empty; set it to every label of the task, in the same order on every node")
    if node.max_length <= (special := tokenizer.num_special_tokens_to_add()):
        raise ConfigError(
            f"max_length = {node.max_length} has room only for the tokenizer's {special} special tokens; raise it"
        )
    read = read_each(file, _index_by_line(rows), lambda row: (read_text(row.fields, node.text), _label(row, node)))
    texts = [text for text, _ in read]
    kept = _ids(tokenizer, texts, truncation=True, max_length=node.max_length)
    # With one token more, to report which rows were cut.
    longer = _ids(tokenizer, texts, truncation=True, max_length=node.max_length + 1)
    return tuple(
        Example(np.array(ids, np.int32), label, cut=len(more) > len(ids))
        for ids, more, (_, label) in zip(kept, longer, read, strict=True)
    )


def _index_by_line(rows: Sequence[Row]) -> list[tuple[int, Row]]:
    return [(row.line, row) for row in rows]


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], **settings: Any) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(list(texts), **settings)["input_ids"] if texts else []
    return ids


def _label(row: Row, node: Node) -> int:
    """Return the label's place in `node.labels`; a whole number is read as its digits."""
    value = row.fields.get(node.label)
    label = str(value) if type(value) is int else read_text(row.fields, node.label)
    if label not in node.labels:
        raise BadRow(f"{node.label!r} is {label!r}, which is not in labels{nearest(label, node.labels)}")
    return node.labels.index(label)


def _causal_lm(rows: Sequence[Row], node: Node, tokenizer: PreTrainedTokenizerBase, file: Path) -> tuple[Example, ...]:
    columns = column_names(rows)
    if node.messages in columns:
        tokens = read_each(file, _index_by_line(rows), chat_tokens(node.messages, tokenizer, file))
    elif node.prompt in columns and node.completion in columns:
        tokens = _join(rows, tokenizer, file, node.prompt, node.completion)
    elif node.text in columns:
        tokens = _join(rows, tokenizer, file, node.text)
    else:
        raise DataError(
            f"{file} has the columns {', '.join(map(repr, columns))}, which contain neither chats (messages = "
            f"{node.messages!r}), nor prompts and completions (prompt = {node.prompt!r}, completion = "
            f"{node.completion!r}), nor texts (text = {node.text!r}); set these keys (in a recipe: in [data])"
        )
    numbered = zip((row.line for row in rows), tokens, strict=True)
    return read_each(file, numbered, lambda each: _example(*each, node.max_length))


def _join(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, file: Path, *columns: str) -> tuple[Tokens, ...]:
    """Tokenise beginning (if the tokenizer adds one) and prompt without loss, then last column and end with loss."""
    bos, eos = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
    beginning = bos if tokenizer("")["input_ids"][:1] == bos else []
    end = eos if eos != [None] else []
    texts = read_each(file, _index_by_line(rows), lambda row: [read_text(row.fields, column) for column in columns])
    plain = [_ids(tokenizer, each, add_special_tokens=False, verbose=False) for each in zip(*texts, strict=True)]
    return tuple(_mark([*beginning, *chain(*given)], [*learned, *end]) for *given, learned in zip(*plain, strict=True))


def _mark(given: list[int], learned: list[int]) -> Tokens:
    return given + learned, [False] * len(given) + [True] * len(learned)


def _example(ids: list[int], learned: list[bool], max_length: int) -> Example:
    """Keep the first `max_length` tokens; raise BadRow if nothing is left to learn from."""
    kept = np.array(ids[:max_length], np.int32)
    targets = np.where(learned[:max_length], kept, np.int32(IGNORE))
    if (targets[1:] == IGNORE).all():
        raise BadRow(f"has nothing to learn in its first {max_length} tokens; raise max_length")
    return Example(kept, targets, cut=len(ids) > max_length)
