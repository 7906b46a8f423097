"""All that a run would read, read: a node's file, or any rows dealt out to clients."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from client.check import Targets, refusals
from client.checking.label_counts import Counts, count_labels
from client.checking.lengths import CUT, better_limit, count_longer
from client.checking.repeats import Repeats, find_repeats
from client.data.batch_order import Indices
from client.data.files.source import open_rows
from client.data.reading_progress import watching
from client.model.base_model import BaseModel
from client.model.targets import find_targets
from client.node import describe_node, load_node, load_node_base, read_own_examples
from client.objectives.encoding import Findings
from client.objectives.examples import Examples, encode_pieces
from client.settings import settle
from common.errors import ConfigError
from common.settings.node import Node

_NO_LIMIT = 1 << 20
"""Tokens of a row that is not cut."""
TRAINED, HELD = "to train on", "held out"


@dataclass(frozen=True, eq=False)
class Checked:
    """What a run would read.

    Args:
        source: of the rows.
        node: settings of base and rows; of a recipe those that all clients share.
        targets: modules that a run trains.
        trained: encoded rows to train on, by whose they are.
        held: rows that are held out, by the name of that part.
        found: rows that are left out, and warnings.
    """

    source: str
    node: Node
    targets: tuple[str, ...]
    trained: Mapping[str, Examples]
    held: Mapping[str, Examples]
    found: Findings

    @property
    def base(self) -> BaseModel:
        """The base model."""
        return load_node_base(self.node)

    @property
    def groups(self) -> dict[str, Examples]:
        """All rows, by whose they are or by the name of their part."""
        return {**self.trained, **self.held}

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(map(len, self.groups.values()))

    @cached_property
    def uncut(self) -> Indices:
        """Tokens of each row before any was cut (n,)."""
        return np.concatenate([rows.whole_lengths for rows in self.groups.values()])

    @property
    def cut(self) -> int:
        """Number of rows that are cut."""
        return sum(rows.truncated for rows in self.groups.values())

    @cached_property
    def labels(self) -> Counts:
        """Rows of each label in each group; none for a task without labels."""
        return count_labels({name: rows.rows for name, rows in self.groups.items()}, self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels; none where rows have numbers, or no labels."""
        return () if self.node.data.has_numbers else self.node.data.labels

    @cached_property
    def repeats(self) -> Repeats:
        """Rows that are there twice."""
        trained, held = ((row for rows in part.values() for row in rows.rows) for part in (self.trained, self.held))
        return find_repeats(trained, held)


def check_node_file(file: Path, targets: Targets = "query-value") -> Checked:
    """Read all that a node would read in a run of a server with these [lora] targets.

    Raises:
        ConfigError, ModelError, DataError: a setting, the base model or a row cannot be used.
        ConfigError: a server would refuse the node; says why.
    """
    local = load_node(file.absolute())
    if faults := list(refusals(local, describe_node(local, targets))):
        raise ConfigError("\n".join(f"{file}: {fault}" for fault in faults))
    return _checked(local.settings, {TRAINED: local.train}, {HELD: local.held}, targets)


def check_rows(node: Node) -> Checked:
    """Read the rows of a node that has no file, none of which is held out; `max_length` is raised where it cuts many.

    Raises:
        ConfigError, ModelError, DataError: the base model or a row cannot be used.
    """
    own = settle(node)
    lengths, positions, limit = _uncut(own), load_node_base(own).positions, own.data.max_length
    if count_longer(lengths, limit) > CUT * len(lengths):
        limit = better_limit(lengths, positions)
    own = replace(own, data=replace(own.data, max_length=min(limit, positions or limit)))
    return _checked(own, {TRAINED: read_own_examples(own)}, {}, "query-value")


def _checked(node: Node, trained: Mapping[str, Examples], held: Mapping[str, Examples], targets: Targets) -> Checked:
    modules = find_targets(load_node_base(node), targets)
    return Checked(node.data.path, node, modules, trained, held, trained[TRAINED].found)


def _uncut(node: Node) -> Indices:
    """Return the tokens that each row has where none is cut (n,); rows that cannot be used are left out."""
    path, data = Path(node.data.path), replace(node.data, max_length=_NO_LIMIT, skip_bad_rows=True)
    with watching(path) as watch:
        chunks = open_rows(path, data.encoding).chunks(watch)
        return encode_pieces(chunks, data, load_node_base(node).tokenizer, path).lengths
