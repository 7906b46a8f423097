"""A file of a node's own state, by default in the folder NODE.state beside its settings file.

SHA-256 of the rest; a line of JSON; bytes
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from common.atomic_files import remove_leftovers, write_file
from common.errors import CodecError
from common.plain_files import read_plain


def state_folder(settings: Path) -> Path:
    """Return the folder of what the node with this settings file keeps from one request to the next."""
    return settings.with_suffix(".state")


class StateFile:
    """One file, which only the node's owner may read.

    Args:
        path: of the file; its folder is made if it does not exist.
        owner: values that say what it belongs to.
    """

    def __init__(self, path: Path, owner: Mapping[str, str]) -> None:
        self.path, self._owner = path, owner

    def write(self, values: Mapping[str, Any], data: bytes, durable: bool = True) -> None:
        """Write values and bytes, or leave what was there.

        Raises:
            OSError: they cannot be written.
        """
        body = json.dumps({**self._owner, **values}).encode() + b"\n" + data
        self._make(self.path, sha256(body).hexdigest().encode() + b"\n" + body, durable)

    def probe(self) -> None:
        """Make the folder, and check that a file can be written there.

        Raises:
            OSError: it cannot.
        """
        self._make(probe := self.path.with_name("probe"), b"", durable=True)
        probe.unlink(missing_ok=True)

    def read(self) -> tuple[dict[str, Any], bytes] | None:
        """Return values and bytes; None if there is no file.

        Raises:
            CodecError: it was changed or cut, or belongs to something else.
            OSError, ValueError, KeyError, TypeError: it cannot be read.
        """
        if not self.path.exists():
            return None
        digest, _, body = read_plain(self.path).partition(b"\n")
        if sha256(body).hexdigest().encode() != digest:
            raise CodecError("it was changed or cut")
        text, _, data = body.partition(b"\n")
        values = json.loads(text)
        if other := {key: values[key] for key, own in self._owner.items() if values[key] != own}:
            raise CodecError("it belongs to " + " and ".join(f"{key} {value!r:.40}" for key, value in other.items()))
        return values, data

    def _make(self, path: Path, data: bytes, durable: bool) -> None:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        remove_leftovers(path.parent)
        write_file(path, data, 0o600, durable=durable)
