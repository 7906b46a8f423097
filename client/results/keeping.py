"""What a node keeps of a request on its disk, and what its announcement says of that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client.memory.kept_update import KeptUpdate
from client.results.saving import saving_of
from common.protocol.announcement import MAX_UNFINISHED
from common.protocol.messages import FROZEN
from common.protocol.payload import Payload

Values = Mapping[str, Any]


def keep(file: Path, kind: str, asked: Payload, values: Values, project: str) -> Values:
    """Keep the global update of a request to train; return the reply's values, of an announcement with what is kept.

    That is the update of the run, and which earlier runs of the project lack their last one.

    Args:
        file: of the node.
        kind: of the request.
        asked: what it contains.
        values: of the reply.
        project: fingerprint of the project.
    """
    if kind == "train" and FROZEN in asked.parts:
        KeptUpdate(file, asked.values["run"], asked.values["base"]).keep(asked.parts[FROZEN])
    if kind == "query" and (run := asked.values.get("run")):
        held = KeptUpdate(file, run, values["fingerprint"]).recall()
        values = {**values, **_begin_saving(file, asked.values, values, project)}
        return {**values, "held": held.digest, "held_ranks": list(held.ranks)} if held else values
    return values


def _begin_saving(file: Path, asked: Values, announced: Values, project: str) -> Values:
    """Begin to save a run, and return what the announcement says of that."""
    saving = saving_of(file)
    saving.begin(asked.get("run_name"), asked["run"], project)
    saving.note_rows(announced["rows"])
    unfinished = [*saving.unfinished()][:MAX_UNFINISHED]
    return ({"saves": True} if saving.folder else {}) | ({"unfinished": unfinished} if unfinished else {})
