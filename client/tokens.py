"""One row -> token ids and what each is trained to predict, by the task and the row's layout.

A target stands beside the id it equals (`targets[t]` is `ids[t]` or IGNORE); the loss shifts by one, so the first never
counts. A prompt and its completion are tokenised apart and joined: a space or newline between them belongs to the data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from client.chat import chat_tokens
from client.checks import BadRow, require, text_of
from client.rows import Row, columns_of
from common.config import Node
from common.errors import ConfigError, DataError, nearest

Ids = NDArray[np.int32]
Encode = Callable[[Row], "Example"]

IGNORE = -100
"""The target of a token that carries no loss; what `torch.nn.functional.cross_entropy` ignores."""


@dataclass(frozen=True, eq=False)
class Example:
    """Token ids (t,); targets: a label's number, or (t,) with IGNORE where no loss is; whether the row was cut."""

    ids: Ids
    targets: int | Ids
    cut: bool


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills up the shorter rows of a batch.

    It may equal a real token (SmolLM2 pads with its end of text), so the attention mask alone tells where loss is.
    """
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(each for each in ids if each is not None)


def encoder(rows: Sequence[Row], node: Node, tokenizer: PreTrainedTokenizerBase, file: Path) -> Encode:
    """The function from a row of this file to an example, for the node's task; it raises BadRow.

    Raises:
        DataError: the file lacks the columns, or the tokenizer a chat template.
        ConfigError: the node names no labels, or its max_length has no room for text.
    """
    make = _classification if node.task == "classification" else _causal_lm
    return make(columns_of(rows), node, tokenizer, file)


def _classification(columns: tuple[str, ...], node: Node, tokenizer: PreTrainedTokenizerBase, file: Path) -> Encode:
    require(file, columns, text=node.text, label=node.label)
    if not node.labels:
        raise ConfigError("labels is empty; set it to every label of the task, in the same order on every node")

    if node.max_length <= (special := tokenizer.num_special_tokens_to_add()):
        raise ConfigError(
            f"max_length = {node.max_length} holds only the tokenizer's {special} special tokens; raise it"
        )

    def encode(row: Row) -> Example:
        text, label = text_of(row.fields, node.text), _label(row, node)
        ids = tokenizer(text, truncation=True, max_length=node.max_length)["input_ids"]
        longer = tokenizer(text, truncation=True, max_length=node.max_length + 1)["input_ids"]
        return Example(np.array(ids, np.int32), label, cut=len(longer) > len(ids))

    return encode


def _label(row: Row, node: Node) -> int:
    """The label's place in `node.labels`; a whole number is read as its digits."""
    value = row.fields.get(node.label)
    label = str(value) if type(value) is int else text_of(row.fields, node.label)
    if label not in node.labels:
        raise BadRow(f"{node.label!r} is {label!r}, which is not in labels{nearest(label, node.labels)}")
    return node.labels.index(label)


def _causal_lm(columns: tuple[str, ...], node: Node, tokenizer: PreTrainedTokenizerBase, file: Path) -> Encode:
    if node.messages in columns:
        tokens = chat_tokens(node.messages, tokenizer, file)
    elif node.prompt in columns and node.completion in columns:
        tokens = _joined(tokenizer, node.prompt, node.completion)
    elif node.text in columns:
        tokens = _joined(tokenizer, None, node.text)
    else:
        raise DataError(
            f"{file} has the columns {', '.join(map(repr, columns))}, which hold neither chats (messages = "
            f"{node.messages!r}), nor prompts and completions (prompt = {node.prompt!r}, completion = "
            f"{node.completion!r}), nor texts (text = {node.text!r}); set these keys (in a recipe: in [data])"
        )
    return lambda row: _example(*tokens(row), node.max_length)


def _joined(
    tokenizer: PreTrainedTokenizerBase, prompt: str | None, completion: str
) -> Callable[[Row], tuple[list[int], list[bool]]]:
    """Beginning (if the tokenizer adds one) and prompt without loss, then completion and end of text with loss."""
    bos, eos = [tokenizer.bos_token_id], [tokenizer.eos_token_id]
    beginning = bos if tokenizer("")["input_ids"][:1] == bos else []
    end = eos if eos != [None] else []

    def plain(row: Row, column: str) -> list[int]:
        text = text_of(row.fields, column)
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def tokens(row: Row) -> tuple[list[int], list[bool]]:
        given = beginning + (plain(row, prompt) if prompt else [])
        learned = plain(row, completion) + end
        return given + learned, [False] * len(given) + [True] * len(learned)

    return tokens


def _example(ids: list[int], learned: list[bool], max_length: int) -> Example:
    """The first `max_length` tokens; a row with nothing left to learn from is refused, since it cannot train."""
    kept = np.array(ids[:max_length], np.int32)
    targets = np.where(learned[:max_length], kept, np.int32(IGNORE))
    if (targets[1:] == IGNORE).all():
        raise BadRow(f"has nothing to learn in its first {max_length} tokens; raise max_length")
    return Example(kept, targets, cut=len(ids) > max_length)
