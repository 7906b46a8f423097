"""Tiny bases in folders of their own, to spoil or to change."""

import json
import shutil

from client.model.base_model import load_base
from simulations.tiny_base import tiny_base
from tests.helpers.common.models import LABELS


def copied(kind, folder, **settings):
    """A tiny base in a folder of its own, with other settings; None takes one away."""
    shutil.copytree(tiny_base(kind), folder)
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def loaded(folder, task="classification", dtype="float32", device="cpu"):
    """The base, for three labels where the task needs them."""
    return load_base(str(folder), task, LABELS if task == "classification" else (), dtype, device)
