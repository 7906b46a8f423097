"""The node's side: make its keys where they stay, and the request that asks a project to admit it."""

from pathlib import Path

from common.errors import IdentityError
from common.identity.documents import names, request
from common.identity.documents.request import JoinRequest
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
