"""The global update that a node trained on last, kept on its disk, so that after a restart it needs only the change.

    NODE.state/global-update    run and base that it belongs to; the buffer as the server hashes it

It is only ever a start for what the server sends: the result has the hash that the server states, or is sent in full.
"""

import logging
from hashlib import sha256
from pathlib import Path

from client.memory.held_buffers import hold
from client.memory.state_file import StateFile, state_folder
from common.adapters.link_codecs import Held
from common.errors import CodecError
from common.log_format import event

log = logging.getLogger(__name__)


class KeptUpdate:
    """The update of one run on one base.

    Args:
        file: settings file of the node.
        run: identity of the run.
        base: fingerprint of the base.
    """

    def __init__(self, file: Path, run: str, base: str) -> None:
        self._node = file
        self._file = StateFile(state_folder(file) / "global-update", {"run": run, "base": base})

    def recall(self) -> Held | None:
        """Hold the kept update, and describe it; None, and a line in the log, if the file is of no use."""
        try:
            found = self._file.read()
        except (OSError, CodecError, ValueError, KeyError, TypeError) as error:
            self._drop(f"cannot be used ({error})")
            return None
        if found is None:
            return None
        held = Held.of(found[1], sha256(found[1]).hexdigest())
        hold([found[1]], "train", self._node)
        return held

    def keep(self, buffer: bytes) -> None:
        """Keep this one; if it cannot be written, a line in the log says so."""
        try:
            self._file.write({}, buffer, durable=False)  # A loss costs nothing but the bytes to send it again.
        except OSError as error:
            self._say(f"cannot be written ({error.strerror})")

    def _drop(self, what: str) -> None:
        self._say(what)
        try:
            self._file.path.unlink(missing_ok=True)
        except OSError:
            log.debug("%s cannot be removed", self._file.path)

    def _say(self, what: str) -> None:
        log.warning(
            "%s %s: the server sends the whole global update again",
            self._file.path,
            what,
            extra=event("update-dropped", reason=what),
        )
