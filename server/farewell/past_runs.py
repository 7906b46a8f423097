"""Earlier runs of a project, in the folders beside that of its run: what they ended with. Nothing there is changed."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.closed_folders import check_run
from common.errors import CodecError, JournalError
from common.hash_chain import Entry
from common.identity.credentials import ServerCredentials
from common.identity.documents.roster import read_roster
from common.identity.keys import files
from common.plain_files import open_plain
from common.protocol.messages import RoundId
from common.settings.resume import read_run_settings
from common.settings.server import ServerFile
from server.farewell.last_update import LastUpdate
from server.rounds.log_line import adapter_hash
from server.rounds.participants import RunModel
from server.rounds.run_settings import RunSettings, algorithm_of
from server.storage import checkpoints
from server.storage.journal import state_of
from server.storage.journal_reader import log_path, verify_chain

LONGEST = 64 << 20
"""Most bytes of the first line of a log, which describes every module of a model."""


def past_runs(runs: Path) -> Mapping[str, Sequence[Path]]:
    """Return the folders of the runs in a folder by the identity of the run, as the first line of each log states it.

    Raises:
        OSError: the folder cannot be listed.
    """
    found: dict[str, list[Path]] = {}
    for folder in sorted(runs.iterdir()):
        if (run := _identity(folder)) is not None:
            found.setdefault(run, []).append(folder)
    return found


def load_last_update(folder: Path, credentials: ServerCredentials) -> LastUpdate:
    """Load, check and sign what a run has ended with.

    Raises:
        JournalError: it has not ended, was changed, or somebody else may write there.
        IdentityError: its roster is not this project's.
        ConfigError: its settings cannot be read.
    """
    _check_owner(folder)
    check_run(folder)
    try:
        return _load(folder, credentials)
    except (OSError, CodecError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise JournalError(f"{folder} cannot be read ({error!r}); restore it from a copy") from None


def _load(folder: Path, credentials: ServerCredentials) -> LastUpdate:
    read_roster(files.read_public(folder / "journal" / "roster.json"), credentials.roster_key)
    entries = verify_chain(folder / "journal").entries
    settings = _read_settings(folder, entries[0], credentials.project)
    if len(entries) <= settings.train.rounds:
        raise JournalError(f"{folder} has {len(entries) - 1} of {settings.train.rounds} rounds; it has not ended")
    first, last = entries[0], entries[-1]
    model = RunModel.begun(first)
    parts = checkpoints.load_checkpoint(checkpoints.checkpoint_path(folder / "journal", last["round"]))
    update = algorithm_of(settings, model).broadcast_update(state_of(last, parts))
    if adapter_hash(update) != last["adapter_hash"]:
        raise JournalError(f"{folder} ended with {last['adapter_hash']:.12}, which this build does not give again")
    round_id = RoundId(first["config"], last["round"], last["adapter_hash"], first["base"])
    return LastUpdate.sign(round_id, update, credentials)


def _read_settings(folder: Path, first: Entry, project: str) -> RunSettings:
    file = read_run_settings(ServerFile, folder / "config.toml")
    settings = RunSettings.from_server_file(file)
    if file.project != project or settings.config != first["config"]:
        raise JournalError(f"{folder / 'config.toml'} is not that of a run of project {project}; restore it")
    return settings


def _check_owner(folder: Path) -> None:
    """Check that only this user writes in a folder, since what is found there is signed."""
    status = folder.lstat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise JournalError(f"{folder} is open to others, or somebody else's; make it your own with chmod 700")


def _identity(folder: Path) -> str | None:
    try:
        if folder.is_symlink():
            return None
        with open_plain(log_path(folder / "journal")) as log:
            return str(json.loads(log.readline(LONGEST))["config"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
