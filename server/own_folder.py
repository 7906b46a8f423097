"""The folder of a deployment's run, which a server that starts again goes on with."""

from collections.abc import Sequence
from pathlib import Path

from common.config import to_tables
from common.errors import ConfigError
from common.resume import changes, config_hash, read_begun
from common.settings import ServerFile
from server.folder import RunFolder


def folder_of(settings: ServerFile, begun: bool) -> RunFolder:
    """The run's folder, with these settings; to be called by the process that holds its journal.

    Args:
        settings: with paths as they are to be used.
        begun: a round was committed, so that the settings are those of the run.

    Raises:
        ConfigError: the folder is of something else, or the run began with settings that make another result.
    """
    folder = RunFolder(Path(settings.folder))
    if folder.config.is_file():
        before = read_begun(ServerFile, folder.config)
        if begun and config_hash(before) != config_hash(settings):
            names = ", ".join(_dotted(change.path) for change in changes(before, to_tables(settings)))
            raise ConfigError(
                f"{folder.path} holds a run that began with other settings ({names}); "
                "give this one another `run`, or set back what you changed"
            )
    folder.describe(to_tables(settings))
    return folder


def _dotted(path: Sequence[str]) -> str:
    *tables, key = path
    return f"[{'.'.join(tables)}] {key}" if tables else key
