"""What a node pins: the newest roster it has seen, in NAME.roster, so that no older one counts any more."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.errors import IdentityError
from common.identity import files, folders, roster
from common.identity.roster import Roster


def newest(folder: Path, name: str, invited: Roster, key: Ed25519PublicKey) -> Roster:
    """The pinned roster, or that of the invite if it is newer.

    Raises:
        IdentityError: the pinned one is damaged, or contradicts that of the invite.
    """
    path = _path(folder, name)
    if not path.exists():
        return invited
    data = files.read_public(path)
    with files.naming(path):
        older, newer = sorted((invited, roster.read(data, key)), key=lambda each: each.version)
        return _following(older, newer)


def pin(folder: Path, name: str, known: Roster, signed: bytes, key: Ed25519PublicKey) -> Roster:
    """The roster in these bytes, which is kept as the newest; `known` is the newest before.

    Raises:
        IdentityError: its form, signature or project is wrong, it is older than the one known, or contradicts it.
    """
    following = _following(known, roster.read(signed, key, known.version))
    with folders.held(folder):
        files.replace(_path(folder, name), signed)
    return following


def _following(known: Roster, new: Roster) -> Roster:
    if new.project != known.project:
        raise IdentityError(f"the roster is of project {new.project}, not of {known.project}; ask for a new invite")
    if new.version == known.version and new != known:
        raise IdentityError(f"there are two rosters of version {new.version}; ask the project's operator which counts")
    return new


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.roster"
