"""A finished run: its base model and its global update, from the folder of a simulation, a server or a node.

Only the run's folder is needed. In that of a simulation `adapter/` contains the update in PEFT's format, and
`test.toml` names the base model, task, labels and test rows; a node's is described in client/results/folder.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.data.files.source import open_rows
from client.data.layouts import Layout, learned_as
from client.finished.saved import check_base, read_saved
from client.model.base_model import BaseModel
from client.model.lora import Lora
from client.node import attach_lora, load_node, load_node_base, read_own_examples
from client.objectives.examples import Examples
from client.results.folder import NodeFolder
from client.settings import read_saved_node
from client.training.evaluate import Score, evaluate
from common.adapters.adapter import Adapter, Array, Factors
from common.closed_folders import check_named, check_run
from common.errors import ConfigError, JournalError, ModelError
from common.huggingface.new_head import initial_weight
from common.huggingface.peft_folder import read_peft_folder
from common.published import check_published
from common.settings.node import Node
from common.settings.tasks import TASKS


@dataclass(frozen=True, eq=False)
class Trained:
    """A run's frozen base and its global update, with the head as factors."""

    node: Node
    base: BaseModel
    adapter: Adapter

    def attach(self) -> tuple[BaseModel, Lora]:
        """Return a model to which this update, or part of it, can be added."""
        return attach_lora(self.base, tuple(self.adapter))


def load_run(run: Path) -> Trained:
    """Load a run's base model and its latest global update.

    Raises:
        JournalError: the folder is not a run, nothing is committed yet, or the adapter is not what was published.
    """
    check_named(run)
    check_run(run)
    if NodeFolder.is_at(run):
        return _load_saved(run)
    if not (run / "adapter").is_dir():
        begun = any((run / name).exists() for name in ("config.toml", "test.toml", "journal"))
        what = "has no adapter yet; wait for its first round, or" if begun else "is not the folder of a run;"
        raise JournalError(f"{run} {what} give the folder of a run, as printed by `run: PATH`")
    if not (run / "test.toml").is_file():
        raise JournalError(
            f"{run} has no test.toml, which names base, task and labels (a deployment's server has none); "
            "write a node's settings file there, with the test rows as its data"
        )
    node = read_saved_node(run / "test.toml")
    base = load_node_base(node)
    check_published(run)
    stored = read_peft_folder(run / "adapter")
    return Trained(node, base, Adapter({**stored.adapter, **_head(base, stored.saved)}))


def _load_saved(run: Path) -> Trained:
    saved, settings = read_saved(run), NodeFolder.open(run).settings
    remedy = f"set base in {settings} to the run's base"
    try:
        base = load_node_base(saved.node)
    except ModelError as error:
        raise ModelError(f"{error}; {remedy}") from None
    check_base(saved.base_hash, base, run / "update", remedy)
    there = dict(base.model.named_modules())
    shapes = attach_lora(base, tuple(name for name in saved.adapter if name in there))[1].shapes
    if wrong := [name for name, shape in saved.adapter.shapes.items() if shapes.get(name) != shape]:
        raise ModelError(
            f"{run / 'update'}: {wrong[0]} of shape {saved.adapter.shapes[wrong[0]]} does not fit {base.folder}, "
            f"which has {shapes.get(wrong[0], 'no such module')}; {remedy}"
        )
    return Trained(saved.node, base, saved.adapter)


def load_test_rows(run: Path) -> tuple[Node, Examples]:
    """Load the run's test rows, and the settings that describe them; of a node's run, the rows that it held out.

    Raises:
        DataError: the run has no test rows.
    """
    if NodeFolder.is_at(run):
        own = load_node(NodeFolder.open(run).settings, saved=True)
        return own.settings, own.held
    node = read_saved_node(run / "test.toml")
    return node, read_own_examples(node)


def has_rows(run: Path) -> bool:
    """Return whether the file of a run's test rows, of a node's run the file of its rows, is there and not empty."""
    settings = NodeFolder.open(run).settings if NodeFolder.is_at(run) else run / "test.toml"
    return _is_filled(Path(read_saved_node(settings).data.path))


def _is_filled(data: Path) -> bool:
    return data.is_dir() or (data.is_file() and bool(data.stat().st_size))


def learned_layout(run: Path) -> Layout | None:
    """Return the layout of a run's rows: a node's, its test rows, or those of its first simulated client."""
    simulated = run / "test.toml", *sorted((run / "nodes").glob("*.toml"))
    for file in (NodeFolder.open(run).settings,) if NodeFolder.is_at(run) else simulated:
        data = read_saved_node(file).data
        if _is_filled(Path(data.path)):
            if not TASKS[data.task].causal:
                return None
            chunk = next(open_rows(Path(data.path), data.encoding).chunks(), None)
            return learned_as(data, chunk) if chunk else None
    return None


def learned_chats(run: Path) -> bool:
    """Return whether a run's rows are chats."""
    layout = learned_layout(run)
    return layout is not None and layout.kind == "chat"


def _head(base: BaseModel, saved: Mapping[str, Array]) -> dict[str, Factors]:
    """Return the finished head's difference from its start as exact factors: the identity and the difference."""
    head = {}
    for module in base.head:
        weight = saved[f"{module.name}.weight"]
        difference = weight - initial_weight(module, (weight.shape[0], weight.shape[1]))
        head[module.name] = Factors(difference, np.eye(len(weight), dtype=np.float32))
    return head


def evaluate_run(run: Path) -> Score:
    """Return the loss and accuracy on the run's test rows.

    Raises:
        JournalError, DataError: the folder is not a run, or it has no test rows.
    """
    trained = load_run(run)
    skeleton, lora = trained.attach()
    return evaluate(skeleton, lora, trained.adapter, load_test_rows(run)[1])


def check_new(out: Path) -> None:
    """Check that a folder can be made.

    Raises:
        ConfigError: it exists, or something above it is a file.
    """
    if above := next((place for place in out.absolute().parents if place.is_file()), None):
        raise ConfigError(f"{out} would be in {above}, which is a file; give the path of a new folder")
    if out.exists():
        raise ConfigError(f"{out} already exists; give the path of a new folder")
