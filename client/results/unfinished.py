"""The runs of a project that a node has saved without their last global update, since it was away as they ended."""

from collections.abc import Iterator
from pathlib import Path

from client.results.folder import NodeFolder
from common.errors import JournalError


def unfinished_runs(runs: Path, project: str, current: str) -> dict[str, NodeFolder]:
    """Return the folders in `runs` of unfinished runs by the identity of the run, the newest first.

    A folder that cannot be read is left out.

    Args:
        runs: folder of the node's runs.
        project: fingerprint of the project; runs of others are not told to its server.
        current: identity of the run that goes on, which is left out.
    """
    found = [folder for folder in _folders(runs) if folder.run != current and _is_of(folder, project)]
    newest = sorted((folder for folder in found if not folder.is_finished), key=lambda folder: -folder.begun)
    return {folder.run: folder for folder in newest}


def _folders(runs: Path) -> Iterator[NodeFolder]:
    for path in sorted(runs.iterdir()):
        if NodeFolder.is_at(path) and not path.is_symlink():
            try:
                yield NodeFolder.open(path)
            except JournalError:
                continue


def _is_of(folder: NodeFolder, project: str) -> bool:
    try:
        return bool(project) and folder.project == project
    except (OSError, ValueError, AttributeError):
        return False
