"""Tiny bases in folders of their own, to spoil or to change."""

import json
import shutil

from client.model.base_model import load_base
from simulations.tiny_base import tiny_base
from tests.helpers.common.models import LABELS


def copied(kind, folder, **settings):
    """Copy a tiny base into a new folder, with other settings; None removes one."""
    shutil.copytree(tiny_base(kind), folder)
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def loaded(folder, task="classification", dtype="float32", device="cpu"):
    """Load the base, for three labels if the task needs them."""
    return load_base(str(folder), task, LABELS if task == "classification" else (), dtype, device)
