"""From a recipe to nodes: rows, test rows and labels, checked before anything is written, then a file for each node."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from client.data.files.source import Watch, ignore, open_rows
from client.data.layouts import find_layout
from client.data.row_checks import is_filled, read_each, require_columns
from client.data.rows import Chunk, Row, by_line, column_names, in_chunks
from client.data.targets.names import LEAST, names_for
from client.model.targets import find_targets
from client.node import attach_lora, check_rank, describe_model, encode_for, load_node_base
from client.objectives import create_objective
from client.objectives.classification import Classification
from client.objectives.encoding import Findings, check_read
from client.questions.module_energies import base_parameters
from client.settings import problem_type_for, settle
from common.adapters.link_codecs import codec_named
from common.atomic_files import write_file
from common.errors import ConfigError, DataError, FedloraError, nearest
from common.huggingface.start_adapter import fit_start, load_start
from common.planning.budget import budget_parameters
from common.planning.ranks import check_budget
from common.settings.node import Node, NodeData, NodeFile, Policy
from common.settings.reader import to_tables, values_of
from common.settings.recipe import Base, Recipe
from common.settings.tasks import TASKS, RowSettings, problem_of
from server.algorithms import AlgorithmSettings, create_algorithm
from server.rounds.participants import RunModel
from server.rounds.run_settings import RunSettings, algorithm_of
from simulations.corpora import load_corpus
from simulations.corpora.corpus import to_jsonl
from simulations.corpora.splits import has_own_test, own_test
from simulations.partition.split import Shard, find_partition, hold_out, split
from simulations.recipe import base_path


@dataclass(frozen=True, eq=False)
class Prepared:
    """A checked simulation.

    Args:
        shards: each client's name and rows.
        nodes: each client's settings, without its data.
        test_rows: held out for the run's owner; none if the recipe wants none.
        truncated: rows of the whole data set that are longer than max_length.
        found: rows that are left out, and what else was found in the data.
        source: origin of the rows, with a hash if there is one.
        begun: modules that the run has begun with; none of a new run.
    """

    shards: tuple[Shard, ...]
    nodes: tuple[Node, ...]
    test_rows: tuple[Mapping[str, Any], ...]
    truncated: int
    found: Findings
    source: str
    begun: tuple[str, ...] = ()


def prepare(recipe: Recipe, watch: Watch = ignore, begun: tuple[str, ...] = ()) -> Prepared:
    """Check every part of a recipe, so that no later step fails on it, and deal out the rows.

    Args:
        recipe: of the simulation.
        watch: is told the share of the rows that is checked.
        begun: modules that the run has begun with, which it keeps.

    Raises:
        FedloraError: names what is wrong and the remedy.
    """
    partition, recipe = find_partition(recipe.clients), settle_problem_type(recipe)
    codec_named(recipe.server.codec)
    create_algorithm(AlgorithmSettings(recipe.seed, recipe.clients.ranks, recipe.lora, recipe.server))
    chunks, file, source = _chunks(recipe)
    rows = [row for chunk in chunks for row in chunk]
    try:
        node = _node(recipe, _labels(rows, file, recipe))
    except FedloraError:
        check_read(chunks, file)  # Columns or classes may be in rows that could not be read.
        raise
    examples = encode_for(node, _watched(chunks, watch), file)
    if examples.found.skipped:
        rows = _usable(chunks, examples.found)
        node = _node(recipe, _labels(rows, file, recipe))
    if "column" in partition.needs:
        _check_column(rows, file, recipe.clients.column or "")
    shards, test_rows = _deal(rows, recipe)
    nodes = _nodes(node, shards, recipe)
    _check_ranks(nodes, recipe, begun)
    _check_start(nodes[0], recipe, begun)
    return Prepared(shards, nodes, test_rows, examples.truncated, examples.found, source, begun)


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
    # The rows that are dealt out are written anew, and none is unusable.
    own = replace(NodeFile.from_node(node), data=f"{node.name}.jsonl", encoding="utf-8", skip_bad_rows=False)
    write_file(file, tomli_w.dumps(to_tables(own)).encode())
    return file


def _chunks(recipe: Recipe) -> tuple[list[Chunk], Path, str]:
    data = recipe.data
    if data.path is not None:
        return list(open_rows(Path(data.path), data.encoding).chunks()), Path(data.path), data.path
    corpus, file = load_corpus(data.corpus or ""), Path(f"corpus {data.corpus}")
    rows = tuple(Row(number, fields) for number, fields in enumerate(corpus.rows, 1))
    return list(in_chunks(rows, file)), file, f"{data.corpus}, SHA-256 {corpus.sha256}"


def _watched(chunks: Sequence[Chunk], watch: Watch) -> Iterator[Chunk]:
    for number, chunk in enumerate(chunks):
        watch(number / len(chunks))
        yield chunk


def _usable(chunks: Iterable[Chunk], found: Findings) -> list[Row]:
    skipped = {(place.file, place.line) for place in found.skipped}
    return [row for chunk in chunks for row in chunk if (chunk.file, row.line) not in skipped]


def settle_problem_type(recipe: Recipe) -> Recipe:
    """Return the recipe with what a row has in place of "auto", for a task with labels."""
    if not TASKS[recipe.data.task].labels:
        return recipe
    base = Base(base_path(recipe.base.path), head=recipe.base.head)
    return replace(recipe, data=replace(recipe.data, problem_type=problem_type_for(recipe.data, base)))


def _labels(rows: Sequence[Row], file: Path, recipe: Recipe) -> tuple[str, ...]:
    if not TASKS[recipe.data.task].labels:
        return ()
    require_columns(file, column_names(rows), text=recipe.data.text, label=recipe.data.label)
    problem = problem_of(recipe.data)
    labels = names_for(problem, (row.fields.get(recipe.data.label) for row in rows))
    if len(labels) < LEAST[problem]:
        _check_kinds(rows, file, recipe, labels)
        only = repr(labels[0]) if labels else "empty"
        needed = "two classes are needed" if LEAST[problem] == 2 else "a label is needed"
        raise ConfigError(f"[data] label = {recipe.data.label!r}: all rows are {only}; {needed}")
    return labels


def _check_kinds(rows: Sequence[Row], file: Path, recipe: Recipe, labels: tuple[str, ...]) -> None:
    """Check that no row has a value of a kind that gives no label, which is read as one that gives some.

    Raises:
        DataError: rows have; says what they may be.
    """
    data, column = recipe.data, recipe.data.label
    objective = create_objective(NodeData(labels=labels, **values_of(RowSettings, data)))
    assert isinstance(objective, Classification)

    def check(row: Row) -> None:
        if is_filled(value := row.fields.get(column)) and not names_for(problem_of(data), [value]):
            objective.read_target(row.fields)

    read_each(file, by_line(rows), check)


def _node(recipe: Recipe, labels: tuple[str, ...]) -> Node:
    """Return the settings that all nodes share; name, rank and data are filled in later."""
    base = Base(base_path(recipe.base.path), recipe.base.dtype, recipe.base.device, recipe.base.head)
    data = NodeData(labels=labels, **values_of(RowSettings, recipe.data))
    policy = Policy(gradients=True, class_sums=True)
    return settle(Node(name="node", rank=1, base=base, data=data, threads=recipe.threads, policy=policy))


def _check_column(rows: Sequence[Row], file: Path, column: str) -> None:
    columns = column_names(rows)
    if column not in columns:
        raise DataError(
            f"{file} has the columns {', '.join(map(repr, columns))}, but not {column!r}{nearest(column, columns)}; "
            "set [clients] column to the one that names the owner"
        )


def _deal(rows: Sequence[Row], recipe: Recipe) -> tuple[tuple[Shard, ...], tuple[Mapping[str, Any], ...]]:
    label = recipe.data.label if recipe.data.has_classes else None
    needed = _needed_columns(column_names(rows), recipe)
    fields: list[Mapping[str, Any]]
    fields = [{key: value for key, value in row.fields.items() if key in needed} for row in rows]
    if recipe.data.corpus and has_own_test(rows[0].fields):
        places = own_test([row.fields for row in rows], recipe.data.test_rows, recipe.seed, recipe.data.prompt)
        kept, test = (tuple(fields[place] for place in part) for part in places)
    else:
        kept, test = hold_out(fields, recipe.data.test_rows, recipe.seed, label)
    return split(kept, recipe.clients, recipe.seed, label), test


def _needed_columns(columns: Sequence[str], recipe: Recipe) -> frozenset[str | None]:
    """Return the columns that a node needs and the column that names its owner, without all others."""
    keys, layout = TASKS[recipe.data.task].columns, None
    if "completion" in keys:
        layout = find_layout(recipe.data, columns)
    named = {getattr(recipe.data, key) for key in keys}
    return frozenset({*named, *(layout.all_columns if layout else ()), recipe.clients.column})


def _nodes(node: Node, shards: Sequence[Shard], recipe: Recipe) -> tuple[Node, ...]:
    ranks = recipe.clients.ranks
    if len(ranks) > len(shards):
        raise ConfigError(f"[clients] ranks has {len(ranks)} ranks for {len(shards)} clients; remove some")
    return tuple(replace(node, name=s.name, rank=ranks[i % len(ranks)]) for i, s in enumerate(shards))


def _check_start(node: Node, recipe: Recipe, begun: tuple[str, ...]) -> None:
    """Raise if the run cannot begin at its adapter; one that has begun may no longer have the folder."""
    folder = recipe.base.adapter
    if folder and Path(folder).exists():
        model = describe_model(node, recipe.lora.targets, begun)
        run = RunModel(model, max(recipe.clients.ranks), fit_start(load_start(recipe.base), folder, model))
        algorithm_of(RunSettings.from_recipe(recipe), run).initial(model.shapes, run.start)


def _check_ranks(nodes: Sequence[Node], recipe: Recipe, begun: tuple[str, ...]) -> None:
    """Raise if the base model cannot serve a rank, or the budget no rank."""
    base = load_node_base(nodes[0])
    shapes = attach_lora(base, find_targets(base, recipe.lora.targets, begun))[1].shapes
    for node in nodes:
        check_rank(node.rank, shapes)
    if recipe.lora.budget:
        own = {name: shape for name, shape in shapes.items() if name not in {head.name for head in base.head}}
        check_budget(budget_parameters(recipe.lora.budget, base_parameters(base)), own, recipe.lora.budget)
