"""Runs that began before the log's first line described their model: what they left describes it."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.adapters.adapter import Adapter, Array, Shapes
from common.errors import FedloraError, JournalError
from common.huggingface.model_description import ModelDescription
from common.huggingface.new_head import HeadModule, initial_weight
from common.huggingface.peft_config import CONFIG
from common.huggingface.peft_folder import read_peft_folder
from common.settings.tasks import TASKS
from server.storage.journal import Journal


def describe_earlier(journal: Journal, adapter: Path) -> ModelDescription:
    """Return the model of a begun run: fingerprint by its log, shapes by its checkpoint, the rest by its adapter.

    Raises:
        JournalError: the published adapter is not there, or is of another run.
    """
    update = journal.last_state().parts["global"]
    shapes: Shapes = update.shapes
    try:
        stored = read_peft_folder(adapter)
        head = _head(stored.saved, update)
        task = _task(json.loads((adapter / CONFIG).read_text(encoding="utf-8"))["task_type"])
        return ModelDescription(journal.entries[0]["base"], task, shapes, head, stored.embeddings)
    except (FedloraError, OSError, ValueError, KeyError) as error:
        raise JournalError(
            f"{adapter} does not tell what the run trains ({error}); set [base] file to the run's base, written at a "
            "node by `fedlora client --check NODE.toml --describe base.toml`"
        ) from None


def _head(saved: Mapping[str, Array], update: Adapter) -> tuple[HeadModule, ...]:
    names = [key.removesuffix(".weight") for key in saved if key.endswith(".weight")]
    return tuple(HeadModule(name, _is_last(name, saved, update), f"{name}.bias" in saved) for name in names)


def _is_last(name: str, saved: Mapping[str, Array], update: Adapter) -> bool:
    """Return whether a finished module began at zero, rather than at random numbers."""
    factors = update[name].astype("f8")
    start = saved[f"{name}.weight"] - factors.b @ factors.a
    drawn = initial_weight(HeadModule(name, False, False), factors.shape)
    return bool(np.linalg.norm(start) < np.linalg.norm(start - drawn))


def _task(kind: str | None) -> str:
    """Return a task of PEFT's kind; tasks of one kind are published alike."""
    found = (name for name, task in TASKS.items() if (task.labels if kind is None else task.peft == kind))
    return next(found, str(kind))
