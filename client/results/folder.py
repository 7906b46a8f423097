"""The folder of a run at a node, written while the run goes on, and whole whenever the node is killed.

FOLDER/RUN/update          the global update as the server hashes it; run, round, and the signature of the last one
FOLDER/RUN/adapter/        a PEFT folder made of it
FOLDER/RUN/node.toml       the node's settings, with whole paths
FOLDER/RUN/run.json        identity and name of the run
FOLDER/RUN/receipts.jsonl  the server's signed receipts for the node's updates, as of the saved update
FOLDER/RUN/report.html     what the run did for this node, as it ends
FOLDER/RUN/history.jsonl   for each request: its kind, round, bytes up and down, what it asked, what the node replied
FOLDER/RUN/beginning       what the first request to train asked
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import tomli_w

from client.results.saved_adapter import SavedAdapter
from client.settings import read_saved_node
from common.atomic_files import remove_leftovers, restore_folder, write_file
from common.errors import JournalError
from common.identity.documents.names import NODE
from common.plain_files import open_plain, read_plain
from common.settings.node import Node, NodeFile
from common.settings.reader import to_tables

_IDENTITY, _SETTINGS = "run.json", "node.toml"


class NodeFolder(SavedAdapter):
    """The folder of one run.

    Args:
        path: of the folder.
        run: identity of the run.
    """

    @classmethod
    def begin(cls, runs: Path, node: Node, name: str, run: str, project: str = "") -> Self:
        """Make the folder of a run of this name in `runs`, or go on in it; that of another run stays as it is.

        `project` is the fingerprint of the run's project.

        Raises:
            ValueError: the name is none.
            OSError: it cannot be written.
        """
        if not NODE.fullmatch(name):
            raise ValueError(f"the run is named {name!r:.80}, which is no name of a folder")
        path = runs / name
        folder = cls(path if _identity(path) in (None, run) else path.with_name(f"{name}-{run[:8]}"), run)
        folder._prepare(node, {"run": run, "name": name, "project": project})
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder of a run that a node has saved.

        Raises:
            JournalError: it is not one.
        """
        if (run := _identity(path)) is None:
            raise JournalError(
                f"{path} is not the folder of a node's run: {_IDENTITY} is missing or damaged; restore it from a "
                "copy, or let the node connect again"
            )
        return cls(path, run)

    @staticmethod
    def is_at(path: Path) -> bool:
        """Return whether a node's run is saved there, be it damaged: one of two files is enough."""
        return (path / _SETTINGS).is_file() or (path / _IDENTITY).is_file()

    @property
    def node(self) -> Node:
        """The node's settings."""
        return read_saved_node(self.path / _SETTINGS)

    @property
    def settings(self) -> Path:
        """Path of the node's settings."""
        return self.path / _SETTINGS

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(_stated(self.path)["name"])

    @property
    def project(self) -> str:
        """Fingerprint of the run's project; empty where none was recorded."""
        return str(_stated(self.path).get("project", ""))

    @property
    def begun(self) -> float:
        """When the node last took part in the run, in seconds of the epoch."""
        return (self.path / _IDENTITY).stat().st_mtime

    def mend(self) -> None:
        """Remove what a killed process left, and bring back an `adapter/` that it was about to replace.

        Raises:
            OSError: the folder cannot be written.
        """
        remove_leftovers(self.path)
        restore_folder(self.path / "adapter")

    def record(self, **facts: Any) -> None:
        """Append a line to the history.

        Raises:
            OSError: it cannot be written.
        """
        with open_plain(self.path / "history.jsonl", "ab") as file:
            file.write(json.dumps(facts).encode() + b"\n")

    def history(self) -> Sequence[Mapping[str, Any]]:
        """Return what was recorded; a line that was cut short is left out."""
        path = self.path / "history.jsonl"
        lines = read_plain(path).splitlines() if path.exists() else []
        return [line for text in lines if (line := _object(text))]

    @property
    def rows(self) -> int | None:
        """How many rows the node has announced last; None if that was not kept."""
        return next((line["rows"] for line in reversed(self.history()) if line.get("kind") == "query"), None)

    def _prepare(self, node: Node, stated: Mapping[str, str]) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.mend()
        write_file(
            self.path / _SETTINGS, tomli_w.dumps(to_tables(NodeFile.from_node(_with_whole_paths(node)))).encode()
        )
        write_file(self.path / _IDENTITY, json.dumps(stated).encode())


def _with_whole_paths(node: Node) -> Node:
    keys = _whole(node.keys) if node.keys else ""
    base = node.base.path if node.base.path.startswith("package:") else _whole(node.base.path)
    data = replace(node.data, path=_whole(node.data.path))
    return replace(
        node,
        keys=keys,
        folder=_whole(node.folder) if node.folder else "",
        data=data,
        base=replace(node.base, path=base),
    )


def _whole(path: str) -> str:
    return str(Path(path).absolute())


def _identity(path: Path) -> str | None:
    """Return the identity of the run in a folder; None if there is none."""
    try:
        return str(_stated(path)["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stated(path: Path) -> Mapping[str, Any]:
    """Return what the folder at a path states of its run."""
    stated: Mapping[str, Any] = json.loads(read_plain(path / _IDENTITY))
    return stated


def _object(text: bytes) -> Mapping[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None
