"""A run's folder as people read it: settings, metrics, curves and adapter, beside the journal of server/storage."""

import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from common.atomic_files import remove_leftovers, write_file
from common.disk_errors import naming_file
from common.errors import ConfigError, JournalError
from common.huggingface.base_file import BaseFile, write_base_file
from common.plain_files import open_plain
from common.report.records import MEASURES, with_current_keys
from common.settings.reader import to_tables
from common.settings.resume import config_hash, find_changes, read_run_settings
from common.settings.server import ServerFile
from server.rounds.observer import RunObserver
from server.storage.publication import AdapterFolder


@contextmanager
def _pytorch_hidden() -> Iterator[None]:
    """Keep what the block imports from importing PyTorch, unless that is imported already."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


# tensorboardX imports PyTorch where it finds it, for tensors. A server has none: that would be a second at its start
# and 180 MB for nothing.
with _pytorch_hidden():
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import scalar

CURVES = (
    "test_loss",
    *(f"test_{key}" for key in MEASURES),
    "aggregation_error",
    "agreement",
    "residual",
    "rank_global",
    "bytes_up",
    "bytes_down",
    "seconds",
)
"""Metrics of a round that TensorBoard shows."""


class RunFolder(RunObserver):
    """The results of a run, for people; everything except `config.toml` can be rewritten from the journal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, settings: Mapping[str, Any]) -> "RunFolder":
        """Make a new folder that contains these settings.

        Raises:
            JournalError: it already exists, or cannot be made.
        """
        try:
            path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise JournalError(
                f"{path} already exists; choose another --name, or resume it with --resume {path}"
            ) from None
        except OSError as error:
            raise JournalError(f"cannot make {path}: {error.strerror}; choose another --out") from None
        folder = cls(path)
        try:
            folder.write_settings(settings)
        except OSError:
            shutil.rmtree(path)  # Without settings it could not be resumed, and would keep its name.
            raise
        return folder

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write the run's settings atomically."""
        write_file(self.config, tomli_w.dumps(settings).encode())

    @property
    def config(self) -> Path:
        """Path of the settings."""
        return self.path / "config.toml"

    @property
    def base(self) -> Path:
        """Path of the description of a simulation's base model; a deployment's is where its operator keeps it."""
        return self.path / "base.toml"

    def describe_base(self, file: BaseFile) -> None:
        """Write the description of a simulation's base model."""
        self.base.unlink(missing_ok=True)
        write_base_file(self.base, file)

    @property
    def adapter(self) -> Path:
        """Path of the published adapter's folder."""
        return self.path / "adapter"

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self.path / "journal"

    @property
    def has_told(self) -> bool:
        """Whether the nodes were told that the run is over."""
        return self._told.exists()

    def mark_told(self) -> None:
        """Note that the nodes were told that the run is over."""
        write_file(self._told, b"")

    def unmark_told(self) -> None:
        """Note that the run is not over."""
        self._told.unlink(missing_ok=True)

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _told(self) -> Path:
        return self.journal / "told"

    def restore(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Rewrite metrics and curves of the committed rounds; a run may have ended before it wrote its last ones."""
        for place in (self.path, self.adapter):
            remove_leftovers(place)
        write_file(self._metrics, b"")
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        for entry in entries:
            self.on_round_committed(with_current_keys(entry["metrics"]))

    def publisher(self, base: str) -> AdapterFolder:
        """Return what keeps `adapter/` as of the last committed round, for the base of this name or path."""
        return AdapterFolder(self.adapter, base)

    def on_round_committed(self, record: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl and a point to each curve."""
        line = json.dumps(record).encode() + b"\n"
        with naming_file(self._metrics, lambda: len(line)), open_plain(self._metrics, "ab") as stream:
            stream.write(line)
        self._add_points(record)

    def _add_points(self, record: Mapping[str, Any]) -> None:
        """Write a point of each curve, in this thread, so that a full disk is an error of the round here and now."""
        folder = self.path / "tensorboard"
        folder.mkdir(exist_ok=True)
        points = [
            point for name in CURVES if record.get(name) is not None for point in scalar(name, record[name]).value
        ]
        event = Event(wall_time=time.time(), step=record["round"], summary=Summary(value=points))
        # TensorBoard names files by the second, so rounds within the same second would overwrite each other.
        with naming_file(folder), closing(EventsWriter(str(folder / "events"), f".{record['round']}")) as curves:
            curves.write_event(event)


def open_run_folder(settings: ServerFile, begun: bool) -> RunFolder:
    """Open the run's folder and write these settings; only for the process that holds its journal.

    Args:
        settings: with resolved paths.
        begun: a round was committed, so the settings of the run must not change.

    Raises:
        ConfigError: the folder belongs to something else, or the run began with settings that give another result.
    """
    folder = RunFolder(Path(settings.folder))
    if folder.config.is_file():
        before = read_run_settings(ServerFile, folder.config)
        if begun and config_hash(before) != config_hash(settings):
            names = ", ".join(_spell_key(change.path) for change in find_changes(before, to_tables(settings)))
            raise ConfigError(
                f"{folder.path} contains a run that began with other settings ({names}); "
                "set another `run` for this one, or restore the old settings"
            )
    folder.write_settings(to_tables(settings))
    return folder


def _spell_key(path: Sequence[str]) -> str:
    *tables, key = path
    return f"[{'.'.join(tables)}] {key}" if tables else key
