"""What a node keeps of the project that its owner has confirmed: its fingerprint, and the newest roster seen.

    NAME.project    the fingerprint; keys of earlier releases have none
    NAME.roster     the newest roster: the key that signed it is the project's, and signs every invite

A node that has one of them takes no other project.
"""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from common.errors import IdentityError
from common.identity.documents import invite as invites
from common.identity.documents import roster
from common.identity.documents.fingerprints import as_word
from common.identity.documents.invite import Invite
from common.identity.documents.roster import Roster, check_successor
from common.identity.keys import files


def check_confirmed(folder: Path, invite: Invite) -> None:
    """Check that the node's owner has confirmed the project of an invite, which lies beside the node's keys.

    Raises:
        IdentityError: no project is confirmed, or another one; or a pin cannot be read.
    """
    if is_confirmed(folder, invite):
        return
    shown, path = invite.project_fingerprint, folder / f"{invite.name}.invite"
    words = ["fedlora", "keys", "accept", str(path), "--dir", str(folder), "--fingerprint", as_word(shown)]
    raise IdentityError(
        f"{path} is not confirmed, so this node does not connect; it is of project {invite.project}, with fingerprint "
        f"{shown}: only if the project's operator reads you the same, run: {shlex.join(words)}"
    )


def is_confirmed(folder: Path, invite: Invite) -> bool:
    """Return whether the node's owner has confirmed the project of an invite; False if none is confirmed.

    Raises:
        IdentityError: another project is confirmed, or a pin cannot be read.
    """
    confirmed, own = _confirmed_fingerprint(folder, invite), invite.project_fingerprint
    if confirmed in (None, own):
        return confirmed == own
    pins = " and ".join(str(path(folder, invite.name)) for path in (_project_path, _roster_path))
    raise IdentityError(
        f"the invite is of project {invite.project} with fingerprint {own}, but this node belongs to the project with "
        f"fingerprint {confirmed}; join another project with keys in another --dir, or, if the operator has made this "
        f"one anew and reads you the new fingerprint, remove {pins} and accept the invite again"
    )


def newest_roster(folder: Path, invite: Invite, invited: Roster) -> Roster:
    """Return the pinned roster, or the one in the invite if it is newer or none is pinned.

    Raises:
        IdentityError: the pinned one is damaged, or contradicts the invite's.
    """
    path = _roster_path(folder, invite.name)
    if not path.exists():
        return invited
    data = files.read_public(path)
    with files.prefix_errors(path):
        pinned = roster.read_roster(data, invite.roster_public_key)
        return check_successor(*sorted((invited, pinned), key=lambda each: each.version))


def pin_project(folder: Path, name: str, fingerprint: str) -> None:
    """Save the fingerprint of the project that the node's owner has confirmed; the caller has locked the folder.

    Raises:
        IdentityError: it cannot be written.
    """
    files.replace_file(_project_path(folder, name), f"{fingerprint}\n".encode())


def pin_roster(folder: Path, name: str, signed: bytes) -> None:
    """Save a checked roster as the newest that this node has seen; the caller has locked the folder.

    Raises:
        IdentityError: it cannot be written.
    """
    files.replace_file(_roster_path(folder, name), signed)


def _confirmed_fingerprint(folder: Path, invite: Invite) -> str | None:
    path, pinned = _project_path(folder, invite.name), _roster_path(folder, invite.name)
    if path.exists():
        return ascii(files.read_public(path).decode(errors="replace").strip()[:80])[1:-1]
    return _fingerprint_of_pinned(pinned, folder, invite) if pinned.exists() else None


def _fingerprint_of_pinned(pinned: Path, folder: Path, invite: Invite) -> str:
    """Return the fingerprint of the project whose roster is pinned: of this invite, or the one beside the keys."""
    data = files.read_public(pinned)
    for each in (invite, *_kept_invite(folder / f"{invite.name}.invite")):
        with suppress(IdentityError):
            roster.read_roster(data, each.roster_public_key)
            return each.project_fingerprint
    raise IdentityError(
        f"{pinned} is damaged, or of another project than the invite, which is of project {invite.project} with "
        f"fingerprint {invite.project_fingerprint}; put back the right one of the two, or join another project with "
        "keys in another --dir"
    )


def _kept_invite(path: Path) -> Iterator[Invite]:
    with suppress(IdentityError):
        yield invites.read_invite(files.read_public(path))[0]


def _project_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.project"


def _roster_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.roster"
