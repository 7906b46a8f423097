"""Nodes on disk: a `client.toml` and rows beside it."""

import tomli_w

from common.settings.tasks import TASKS
from simulations.corpora import toy
from simulations.corpora.corpus import to_jsonl
from simulations.tiny_base import tiny_base

PLACES = ("farm", "harbour", "kitchen", "station")


def write_node(folder, kind="bert", rows=24, **settings):
    """Write the file of a node that has the first rows of the toy corpus; settings of None are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_bytes(to_jsonl(toy.load().rows[:rows]))
    plain = {"name": "clinic", "rank": 4, "base": str(tiny_base(kind)), "data": "rows.jsonl", "max_length": 32}
    without = [name for name, task in TASKS.items() if not task.labels]
    task = {"labels": PLACES} if settings.get("task") not in without else {}
    whole = plain | {"device": "cpu"} | task | settings
    file = folder / "client.toml"
    file.write_text(tomli_w.dumps({key: value for key, value in whole.items() if value is not None}))
    return file
