"""A server's settings, read from its own file."""

from dataclasses import asdict, replace
from pathlib import Path

from common.adapters.link_codecs import codec_named
from common.closed_folders import check_run
from common.errors import ConfigError
from common.settings.reader import parse_settings, read_toml, user_path
from common.settings.recipe import Server
from common.settings.resume import resume_settings
from common.settings.server import RunBase, ServerFile
from server.algorithms import AlgorithmSettings, create_algorithm
from server.storage.journal_reader import has_begun


def read_server(file: Path) -> ServerFile:
    """Read the settings in a server's own file; paths in it are relative to it.

    If the run in its folder has begun, keys that the file leaves unset keep the values that the run began with.

    Raises:
        ConfigError: the file is missing, or a key or value is wrong.
        JournalError: the run's folder contains a link.
    """
    tables = read_toml(file)
    # A recipe has these two keys in those sections, so a copy from there is a likely mistake.
    for section, key in (("train", "rounds"), ("server", "cohort")):
        if isinstance(tables.get(section), dict) and key in tables[section]:
            raise ConfigError(
                f"{file}: [{section}] {key} belongs at the top of a server's file, as {key}; move it there"
            )
    if "max_rank" in tables:
        raise ConfigError(f"{file}: max_rank belongs in [base], as [base] max_rank; move it there")
    settings = parse_settings(ServerFile, tables, str(file))
    folder = file.parent / user_path(settings.folder or f"runs/{settings.run}")
    keys = file.parent / user_path(settings.keys)
    check_run(folder)
    if has_begun(folder / "journal") and (config := folder / "config.toml").is_file():
        settings = resume_settings(ServerFile, tables, str(file), config)
    codec_named(settings.server.codec)
    create_algorithm(AlgorithmSettings(settings.seed, (1,), settings.lora, Server(**asdict(settings.server))))
    return replace(settings, folder=str(folder), keys=str(keys), base=_resolved(settings.base, file.parent))


def _resolved(base: RunBase, folder: Path) -> RunBase:
    def absolute(path: str | None) -> str | None:
        # Absolute, since it is read again from the run's own config.toml.
        return path if not path or path.startswith("package:") else str((folder / user_path(path)).absolute())

    return replace(base, file=absolute(base.file), path=absolute(base.path), adapter=absolute(base.adapter))
