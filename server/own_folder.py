"""The folder of a deployment's run, which a server that starts again goes on with."""

from pathlib import Path

from common.config import config_hash, decisive_tables, parse, read_toml, to_tables
from common.errors import ConfigError
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
        before = parse(ServerFile, read_toml(folder.config), str(folder.config))
        if begun and config_hash(before) != config_hash(settings):
            raise ConfigError(
                f"{folder.path} holds a run that began with other settings ({', '.join(_changed(before, settings))}); "
                "give this one another `run`, or set back what you changed"
            )
    folder.describe(to_tables(settings))
    return folder


def _changed(before: ServerFile, now: ServerFile) -> list[str]:
    """Keys and tables that differ, such as `seed` or `[lora] alpha`."""
    old, new = decisive_tables(before), decisive_tables(now)
    names = []
    for key in sorted(old.keys() | new.keys()):
        was, is_ = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(is_, dict):
            names += [f"[{key}] {name}" for name in sorted(was.keys() | is_.keys()) if was.get(name) != is_.get(name)]
        elif was != is_:
            names.append(key)
    return names
