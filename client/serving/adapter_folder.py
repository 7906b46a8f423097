"""Adapters in folders, checked against the base that they are to be served over; the base is not loaded again."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from client.finished.saved import Saved, check_base, read_saved
from client.model.base_model import BaseModel
from client.model.lora import adaptable_shapes
from client.results.folder import NodeFolder
from client.settings import read_saved_node
from common.adapters.adapter import Adapter, Array, Factors, Shapes
from common.closed_folders import check_run
from common.errors import ModelError, nearest
from common.huggingface.base_folder import resolve_base
from common.huggingface.fingerprint import base_hash
from common.huggingface.peft_folder import PeftAdapter, read_peft_folder
from common.published import check_published
from common.settings.node import Node
from common.settings.tasks import TASKS, problem_of


def read_adapter(folder: Path, node: Node, base: BaseModel) -> Adapter:
    """Read the adapter in a PEFT folder, or that of a run over the same base.

    Args:
        folder: of either.
        node: settings of the run that is served.
        base: of that run.

    Raises:
        ModelError: there is no adapter, or it does not fit; names the module.
        JournalError, ConfigError: the folder of a run was changed, or cannot be read.
    """
    if NodeFolder.is_at(folder):
        check_run(folder)
        return _fit_saved(read_saved(folder), node, base, folder)
    if not (folder / "adapter").is_dir():
        return fit(read_peft_folder(folder), base, folder)
    check_run(folder)
    check_published(folder)
    if (folder / "test.toml").is_file():
        _check_same(read_saved_node(folder / "test.toml"), node, base, folder)
    return fit(read_peft_folder(folder / "adapter"), base, folder)


def _fit_saved(saved: Saved, node: Node, base: BaseModel, folder: Path) -> Adapter:
    _check_kind(saved.node, node, folder)
    check_base(saved.base_hash, base, folder, "serve it by itself")
    shapes = adaptable_shapes(base.model)
    for name, factors in saved.adapter.items():
        _check_fit(name, factors, shapes, folder)
    return saved.adapter


def _check_same(other: Node, node: Node, base: BaseModel, folder: Path) -> None:
    """Check that another run has the kind of model, the labels and the base of the one that is served."""
    _check_kind(other, node, folder)
    path = resolve_base(other.base.path)
    if path != base.folder and base_hash(path) != base_hash(base.folder):
        raise ModelError(f"{folder} was trained on the base {path}, not on {base.folder}; serve it by itself")


def _check_kind(other: Node, node: Node, folder: Path) -> None:
    if TASKS[other.data.task].peft != TASKS[node.data.task].peft:
        raise ModelError(f"{folder} was trained for {other.data.task}, not {node.data.task}; serve it by itself")
    if (kind := problem_of(other.data)) != problem_of(node.data):
        raise ModelError(f"{folder} was trained for {kind}, not {problem_of(node.data)}; serve it by itself")
    if other.data.labels != node.data.labels:
        raise ModelError(
            f"{folder} has the labels {', '.join(other.data.labels)}, not {', '.join(node.data.labels)}; "
            "serve it by itself"
        )
    if (other.data.chat_template, other.data.system) != (node.data.chat_template, node.data.system):
        raise ModelError(f"{folder} was trained with another chat_template or system; serve it by itself")


def fit(stored: PeftAdapter, base: BaseModel, folder: Path) -> Adapter:
    """Return what a PEFT folder adds to the base, as factors; modules that it saves whole as their difference.

    Raises:
        ModelError: it states another base, or a module is not in the base, has another shape, or is not finite.
    """
    check_base(stored.base_hash, base, folder, "give an adapter of this base")
    shapes = adaptable_shapes(base.model)
    for name, factors in stored.adapter.items():
        _check_fit(name, factors, shapes, folder)
    return Adapter({**stored.adapter, **_saved(stored.saved, base, shapes, folder)})


def _check_fit(name: str, factors: Factors, shapes: Shapes, folder: Path) -> None:
    if name not in shapes:
        raise ModelError(
            f"{folder}: module {name} is not in the base model, or cannot be adapted{nearest(name, shapes)}"
        )
    if factors.shape != shapes[name]:
        raise ModelError(
            f"{folder}: {name} has shape {factors.shape} and in the base model {shapes[name]}; "
            "give an adapter of this base"
        )
    if not (np.isfinite(factors.a).all() and np.isfinite(factors.b).all()):
        raise ModelError(f"{folder}: {name} has numbers that are not finite; save the adapter again")


def _saved(saved: Mapping[str, Array], base: BaseModel, shapes: Shapes, folder: Path) -> dict[str, Factors]:
    """Return the tensors that are saved whole as exact factors; the base's own, as biases that stayed, add nothing."""
    own, found = base.model.state_dict(), {}
    for key, array in saved.items():
        name, _, kind = key.rpartition(".")
        if key not in own or tuple(own[key].shape) != array.shape:
            raise ModelError(f"{folder}: {key} is not in the base model in this shape; give an adapter of this base")
        difference = _difference(array, own[key])
        if not difference.any():
            continue
        if kind != "weight" or not isinstance(base.model.get_submodule(name), nn.Linear):
            raise ModelError(
                f"{folder}: {key} is saved whole and differs from the base; only matrices can be served so"
            )
        found[name] = _exact(difference)
        _check_fit(name, found[name], shapes, folder)
    return found


def _difference(array: Array, own: Tensor) -> Array:
    difference: Array = torch.tensor(array.astype("f4")).sub(own.detach().float().cpu()).numpy()
    return difference


def _exact(matrix: Array) -> Factors:
    """Return a matrix (d, k) as factors of the smaller of d and k: the matrix and the identity."""
    d, k = matrix.shape
    return Factors(matrix, np.eye(d, dtype=np.float32)) if d <= k else Factors(np.eye(k, dtype=np.float32), matrix)
