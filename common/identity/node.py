"""The node's side: make its keys where they stay, and the request that asks a project to admit it."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.errors import IdentityError
from common.identity.documents import names, request, roster
from common.identity.documents.request import JoinRequest
from common.identity.documents.roster import Roster
from common.identity.keys import files, folders, private_keys


def join(folder: Path, name: str) -> JoinRequest:
    """Make a new node's keys, NAME.key and NAME.sign.key, and its request, NAME.request, which is returned.

    The request is written last: after a crash before it, the next call uses the keys that exist.

    Raises:
        IdentityError: the name is not valid for a node, the request already exists, or a file cannot be used.
    """
    names.node_name(name)
    folders.ensure(folder)
    path = folder / f"{name}.request"
    with folders.lock(folder):
        if path.exists():
            raise _refusal(path)
        tls_key = private_keys.load_or_make(folder / f"{name}.key", private_keys.read_tls_key, private_keys.new_tls_key)
        signing_key = private_keys.load_or_make(
            folder / f"{name}.sign.key", private_keys.read_signing_key, private_keys.new_signing_key
        )
        data = request.make_request(name, tls_key, signing_key)
        files.create_file(path, data)
    return request.read_request(data)


def load_request(path: Path) -> JoinRequest:
    """Load the request in a file.

    Raises:
        IdentityError: it is not a request, or was not made by the holder of its keys.
    """
    data = files.read_public(path, links=True)
    with files.prefix_errors(path):
        return request.read_request(data)


def _refusal(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} already exists, with fingerprint {load_request(path).fingerprint}; send that, or choose another name"
    )


def newest_roster(folder: Path, name: str, invited: Roster, key: Ed25519PublicKey) -> Roster:
    """Return the pinned roster, or the invite's if it is newer.

    Raises:
        IdentityError: the pinned one is damaged, or contradicts the invite's.
    """
    path = _path(folder, name)
    if not path.exists():
        return invited
    data = files.read_public(path)
    with files.prefix_errors(path):
        older, newer = sorted((invited, roster.read_roster(data, key)), key=lambda each: each.version)
        return _check_successor(older, newer)


def pin_roster(folder: Path, name: str, known: Roster, signed: bytes, key: Ed25519PublicKey) -> Roster:
    """Save the roster in these bytes as the newest and return it; `known` is the newest before.

    Raises:
        IdentityError: its form, signature or project is wrong, it is older than the one known, or contradicts it.
    """
    following = _check_successor(known, roster.read_roster(signed, key, known.version))
    with folders.lock(folder):
        files.replace_file(_path(folder, name), signed)
    return following


def _check_successor(known: Roster, new: Roster) -> Roster:
    if new.project != known.project:
        raise IdentityError(f"the roster is of project {new.project}, not of {known.project}; ask for a new invite")
    if new.version == known.version and new != known:
        raise IdentityError(
            f"there are two rosters of version {new.version}; ask the project's operator which of them is valid"
        )
    return new


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.roster"
