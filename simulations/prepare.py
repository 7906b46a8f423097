"""From a recipe to nodes: rows, test rows and labels, checked before anything is written, then a file for each node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from client.data.row_checks import require_columns
from client.data.rows import Row, column_names, read_rows
from client.model.targets import find_targets
from client.node import attach_lora, check_rank, load_node_base, read_examples
from common.adapters.link_codecs import codec_named
from common.atomic_files import write_file
from common.errors import ConfigError, DataError, nearest
from common.settings.node import Node, NodeData, NodeFile, Policy
from common.settings.reader import to_tables, values_of
from common.settings.recipe import Recipe
from common.settings.tasks import TASKS, RowSettings
from server.algorithms import AlgorithmSettings, create_algorithm
from simulations.corpora import load_corpus
from simulations.corpora.corpus import to_jsonl
from simulations.partition import Shard, find_partition, hold_out, split
from simulations.recipe import base_path


@dataclass(frozen=True, eq=False)
class Prepared:
    """A checked simulation.

    Args:
        shards: each client's name and rows.
        nodes: each client's settings, without its data.
        test_rows: held out for the run's owner; none if the recipe wants none.
        truncated: rows of the whole data set that are longer than max_length.
        source: origin of the rows, with a hash if there is one.
    """

    shards: tuple[Shard, ...]
    nodes: tuple[Node, ...]
    test_rows: tuple[Mapping[str, Any], ...]
    truncated: int
    source: str


def prepare(recipe: Recipe) -> Prepared:
    """Check every part of a recipe, so that no later step fails on it, and deal out the rows.

    Raises:
        FedloraError: names what is wrong and the remedy.
    """
    partition = find_partition(recipe.clients)
    codec_named(recipe.server.codec)
    create_algorithm(AlgorithmSettings(recipe.seed, recipe.clients.ranks, recipe.lora, recipe.server))
    rows, file, source = _rows(recipe)
    node = _node(recipe, _labels(rows, file, recipe))
    truncated = read_examples(node, rows, file).truncated
    if "column" in partition.needs:
        _check_column(rows, file, recipe.clients.column or "")
    shards, test_rows = _deal(rows, recipe)
    nodes = _nodes(node, shards, recipe)
    _check_ranks(nodes, recipe)
    return Prepared(shards, nodes, test_rows, truncated, source)


def write_nodes(folder: Path, prepared: Prepared) -> tuple[Path, ...]:
    """Write a settings file and a file of rows for each client, under its name."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_write(folder, node, shard) for node, shard in zip(prepared.nodes, prepared.shards, strict=True))


def write_test(folder: Path, prepared: Prepared) -> None:
    """Write the test rows as a separate node, `test.toml` and `test.jsonl`, for later users of the run."""
    _write(folder, replace(prepared.nodes[0], name="test"), Shard("test", prepared.test_rows))


def _write(folder: Path, node: Node, shard: Shard) -> Path:
    write_file(folder / f"{node.name}.jsonl", to_jsonl(shard.rows))
    file = folder / f"{node.name}.toml"
    write_file(file, tomli_w.dumps(to_tables(replace(NodeFile.from_node(node), data=f"{node.name}.jsonl"))).encode())
    return file


def _rows(recipe: Recipe) -> tuple[tuple[Row, ...], Path, str]:
    data = recipe.data
    if data.path is not None:
        return read_rows(Path(data.path)), Path(data.path), data.path
    corpus = load_corpus(data.corpus or "")
    rows = tuple(Row(number, fields) for number, fields in enumerate(corpus.rows, 1))
    return rows, Path(f"corpus {data.corpus}"), f"{data.corpus}, SHA-256 {corpus.sha256}"


def _labels(rows: Sequence[Row], file: Path, recipe: Recipe) -> tuple[str, ...]:
    if not TASKS[recipe.data.task].labels:
        return ()
    require_columns(file, column_names(rows), text=recipe.data.text, label=recipe.data.label)
    values = [row.fields.get(recipe.data.label) for row in rows]
    labels = tuple(sorted({str(value) for value in values if value not in (None, "")}))
    if len(labels) < 2:
        only = repr(labels[0]) if labels else "empty"
        raise ConfigError(f"[data] label = {recipe.data.label!r}: all rows are {only}; two classes are needed")
    return labels


def _node(recipe: Recipe, labels: tuple[str, ...]) -> Node:
    """Return the settings that all nodes share; name, rank and data are filled in later."""
    base = replace(recipe.base, path=base_path(recipe.base.path))
    data = NodeData(labels=labels, **values_of(RowSettings, recipe.data))
    return Node(name="node", rank=1, base=base, data=data, threads=recipe.threads, policy=Policy(gradients=True))


def _check_column(rows: Sequence[Row], file: Path, column: str) -> None:
    columns = column_names(rows)
    if column not in columns:
        raise DataError(
            f"{file} has the columns {', '.join(map(repr, columns))}, but not {column!r}{nearest(column, columns)}; "
            "set [clients] column to the one that names the owner"
        )


def _deal(rows: Sequence[Row], recipe: Recipe) -> tuple[tuple[Shard, ...], tuple[Mapping[str, Any], ...]]:
    label = recipe.data.label if TASKS[recipe.data.task].labels else None
    fields = [_needed_columns(row.fields, recipe) for row in rows]
    kept, test = hold_out(fields, recipe.data.test_rows, recipe.seed, label)
    return split(kept, recipe.clients, recipe.seed, label), test


def _needed_columns(fields: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """Return the columns that a node needs and the column that names its owner, without all others."""
    needed = {getattr(recipe.data, key) for key in TASKS[recipe.data.task].columns}
    return {key: value for key, value in fields.items() if key in {*needed, recipe.clients.column}}


def _nodes(node: Node, shards: Sequence[Shard], recipe: Recipe) -> tuple[Node, ...]:
    ranks = recipe.clients.ranks
    if len(ranks) > len(shards):
        raise ConfigError(f"[clients] ranks has {len(ranks)} ranks for {len(shards)} clients; remove some")
    return tuple(replace(node, name=s.name, rank=ranks[i % len(ranks)]) for i, s in enumerate(shards))


def _check_ranks(nodes: Sequence[Node], recipe: Recipe) -> None:
    """Raise if the base model cannot serve a rank."""
    base = load_node_base(nodes[0])
    shapes = attach_lora(base, find_targets(base, recipe.lora.targets))[1].shapes
    for node in nodes:
        check_rank(node.rank, shapes)
