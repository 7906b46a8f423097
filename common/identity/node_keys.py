"""The node's side: make its keys where they stay, and the request that asks a project to admit it."""

from pathlib import Path

from common.errors import IdentityError
from common.identity import files, folders, keys, names, request
from common.identity.request import Request


def join(folder: Path, name: str) -> Request:
    """The request of a new node, which is in NAME.request; its keys are in NAME.key and NAME.sign.key.

    The request is written last: if a crash comes before it, the next call takes the keys that are there.

    Raises:
        IdentityError: the name cannot be a node's, the request is there already, or a file cannot be used.
    """
    names.node_name(name)
    folders.ensure(folder)
    path = folder / f"{name}.request"
    with folders.held(folder):
        if path.exists():
            raise _refusal(path)
        tls_key = keys.kept_or_new(folder / f"{name}.key", keys.read_tls_key, keys.new_tls_key)
        signing_key = keys.kept_or_new(folder / f"{name}.sign.key", keys.read_signing_key, keys.new_signing_key)
        data = request.make(name, tls_key, signing_key)
        files.create(path, data)
    return request.read(data)


def read_request(path: Path) -> Request:
    """The request in a file.

    Raises:
        IdentityError: it is none, or was not made by the holder of its keys.
    """
    data = files.read_public(path)
    with files.naming(path):
        return request.read(data)


def _refusal(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} is there already, with fingerprint {read_request(path).fingerprint}; send that, or choose another name"
    )
