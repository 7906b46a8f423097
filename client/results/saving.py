"""What a node saves of the requests that it answers: each global update that the run has committed, and its losses."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

from torch import nn

from client.model.base_model import BaseModel
from client.node import load_node
from client.results.folder import NodeFolder
from client.results.given import keep_beginning, told_facts
from client.results.receipts import copy_receipts
from client.results.saved_adapter import SavedUpdate
from client.results.unfinished import unfinished_runs
from client.settings import read_node
from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter, encode_adapter
from common.adapters.joined import stack_adapters
from common.errors import RunError
from common.huggingface.base_folder import public_name
from common.huggingface.fingerprint_parts import BASE, folder_parts
from common.huggingface.peft_folder import render_peft_folder
from common.log_format import event
from common.protocol.messages import ENDED, FROZEN, unpack_assignment
from common.protocol.payload import Payload

EVERY = 60.0
"""Seconds between two updates that are saved, at least; the last one of a run always is."""

log = logging.getLogger(__name__)


class Saving:
    """Saves what one node, named by its file, answers.

    `folder` is that of the run that goes on, and `completed` has those of earlier runs whose last update came in this
    process, by the identity of the run. `reporting` writes a page, and `reported` is the update of the last one.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._node, self._saved = file, read_node(file), -EVERY
        self._runs = Path(self._node.folder) if self._node.folder else file.parent / "runs" / self._node.name
        self.folder: NodeFolder | None = None
        self.completed: dict[str, NodeFolder] = {}
        self.reporting: Thread | None = None
        self.reported: SavedUpdate | None = None
        self._project = ""

    @property
    def is_on(self) -> bool:
        """Whether the owner wants anything saved."""
        return self._node.save

    def begin(self, name: Any, run: Any, project: str = "") -> None:
        """Begin, or go on with, the run that the server names; `project` is the fingerprint of its project."""
        self.folder, self._project = None, project
        if self.is_on and isinstance(name, str) and isinstance(run, str):
            self.folder = self._attempt(lambda: NodeFolder.begin(self._runs, self._node, name, run, project))

    def note_rows(self, rows: int) -> None:
        """Keep how many rows the node has announced, for what is told of the run."""
        if (folder := self.folder) is not None and folder.rows != rows:
            self._attempt(lambda: folder.record(kind="query", rows=rows))

    def unfinished(self) -> Mapping[str, NodeFolder]:
        """Return the folders of earlier runs of this project that lack their last update, by identity, newest first."""
        if (folder := self.folder) is None:
            return {}
        return self._attempt(lambda: unfinished_runs(self._runs, self._project, folder.run)) or {}

    def complete(self, folder: NodeFolder, update: SavedUpdate) -> None:
        """Save the last update of an earlier run.

        Raises:
            RunError: it cannot be saved, so that the server offers it again.
        """
        self._attempt(folder.mend)
        if not self._save(folder, update):
            raise RunError("the last global update cannot be saved; see the line before")
        self._attempt(lambda: folder.record(kind="evaluate", round=update.round, up=0, down=len(update.buffer)))
        self.completed[folder.run] = folder

    def take(self, kind: str, asked: Payload, values: Mapping[str, Any], up: int, down: int) -> bool:
        """Save what a request brought, after its answer, and return whether that was the end of the run.

        An error of the disk is logged, and the run goes on.

        Raises:
            RunError: the last global update cannot be saved, so that the server offers it again.
        """
        if (folder := self.folder) is None or kind == "query" or asked.values.get("run") != folder.run:
            return False
        told = {key: values[key] for key in ("loss", "count", "examples") if key in values}
        number = asked.values["round"]
        facts = told_facts(kind, asked) | told
        self._attempt(lambda: folder.record(kind=kind, round=number, up=up, down=down, **facts))
        if kind == "train":
            self._attempt(lambda: keep_beginning(folder, asked))
        if ENDED in asked.values:
            if not self._save(folder, SavedUpdate(number, asked.parts[FROZEN], asked.values[ENDED])):
                raise RunError("the last global update cannot be saved; see the line before")
        elif kind == "train" and time.monotonic() >= self._saved + EVERY and (buffer := _committed(asked)):
            is_saved = self._save(folder, SavedUpdate(number - 1, buffer))
            self._saved = time.monotonic() if is_saved else -EVERY
        return ENDED in asked.values

    def _save(self, folder: NodeFolder, update: SavedUpdate) -> bool:
        """Save an update of the node's base, and return whether that went well."""
        base = load_node(self._file).base
        update = replace(update, base_hash=folder_parts(base.folder)[BASE])
        files = render_update(base, decode_adapter(update.buffer).astype("f4"), update.base_hash)
        if not self._attempt(lambda: folder.save(update, files)):
            return False
        self._attempt(lambda: copy_receipts(folder, self._node))
        extra = event("update-saved", round=update.round, path=str(folder.path))
        log.info("the global update of round %s is in %s", update.round, folder.path, extra=extra)
        return True

    def _attempt(self, write: Callable[[], Any]) -> Any:
        """Return what a function returns that writes to the disk; None, and a line in the log, if it cannot."""
        try:
            return write()
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or error
            log.warning(
                "the run's folder in %s cannot be written (%s): the run goes on, and what it trains is not saved here",
                self._runs,
                what,
                extra=event("not-saved", reason=str(what)),
            )
            return None


@cache
def saving_of(file: Path) -> Saving:
    """Return what saves the answers of this process for the node with this file."""
    return Saving(file)


def render_update(base: BaseModel, adapter: Adapter, base_hash: str) -> dict[str, bytes]:
    """Return the files of a PEFT folder of a global update, which state the base of this hash."""
    embeddings = [name for name in adapter if isinstance(base.model.get_submodule(name), nn.Embedding)]
    return render_peft_folder(adapter, base.head, public_name(str(base.folder)), base.task, embeddings, base_hash)


def _committed(asked: Payload) -> bytes | None:
    """Return the global update that a request to train starts from, if all of it is in the request."""
    if (buffer := asked.parts.get(FROZEN)) is None:
        assignment = unpack_assignment(asked.values, asked.blob, asked.parts)
        buffer = encode_adapter(stack_adapters(assignment.frozen, assignment.start))
    return buffer if sha256(buffer).hexdigest() == asked.values["parent"] else None
