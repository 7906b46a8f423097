"""The global update that a node keeps of a run, and the PEFT folder made of it.

What is written stays whole whenever the node is killed: the update is replaced first, and names the files of the PEFT
folder that is made of it, and of the one before, which is there until the new one takes its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from client.memory.state_file import StateFile
from common.atomic_files import replace_folder
from common.errors import CodecError, JournalError
from common.huggingface.peft_folder import write_files
from common.published import file_hashes, find_change


@dataclass(frozen=True)
class SavedUpdate:
    """A global update of a run.

    Args:
        round: after which it is the global update.
        buffer: its factors.
        signature: the server's over an `Ending`, in hexadecimal; empty unless the run has ended with it.
        base_hash: SHA-256 of the base model that it changes (`fingerprint_parts.BASE`); empty if not known.
    """

    round: int
    buffer: bytes
    signature: str = ""
    base_hash: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 by which the log names it."""
        return sha256(self.buffer).hexdigest()


class SavedAdapter:
    """The files `update` and `adapter/` in the folder of one run.

    Args:
        path: of the folder.
        run: identity of the run.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        self._update = StateFile(path / "update", {"run": run})

    @property
    def is_finished(self) -> bool:
        """Whether the saved update is signed as the last of the run, and the PEFT folder is made of it."""
        try:
            return bool((found := self.update) and found.signature and not self.changed_file())
        except (JournalError, OSError):
            return False

    @property
    def update(self) -> SavedUpdate | None:
        """The newest saved global update; None if there is none yet.

        Raises:
            JournalError: it was changed, cut, or is of another run.
        """
        try:
            if (found := self._update.read()) is None:
                return None
            values, buffer = found
            return SavedUpdate(values["round"], buffer, values["signature"], values.get("base_hash", ""))
        except (OSError, CodecError, ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"{self.path / 'update'} cannot be used ({error}); restore it from a copy, or let the node connect "
                "again, and it gets the last one"
            ) from None

    def changed_file(self) -> str | None:
        """Return a file of the PEFT folder that is not as it was made of the saved update, and how; None if all are.

        Raises:
            JournalError: the saved update cannot be used.
            OSError: a file cannot be read.
        """
        return find_change(self.path / "adapter", self._files("files"))

    def foreign_file(self) -> str | None:
        """Return a file as `changed_file` does, unless all are as a node leaves them that is killed while it saves.

        That is the PEFT folder of the update before, or none.
        """
        change = self.changed_file()
        if change is None or not (self.path / "adapter").exists():
            return None
        before = self._files("files_before")
        return change if not before or find_change(self.path / "adapter", before) else None

    def _files(self, key: str) -> dict[str, str]:
        """Return the SHA-256 of each file of the PEFT folder that the saved update names."""
        found = self._update.read() if self.update else None
        return dict(found[0].get(key, {})) if found else {}

    def save(self, update: SavedUpdate, files: Mapping[str, bytes]) -> Path:
        """Save a global update, and the files of its PEFT folder, which is returned.

        What was there stays whole until then.

        Raises:
            OSError: they cannot be written.
        """
        values = {"round": update.round, "signature": update.signature, "base_hash": update.base_hash}
        self._update.write({**values, "files": file_hashes(files), "files_before": self._files_before()}, update.buffer)
        with replace_folder(folder := self.path / "adapter") as new:
            write_files(new, files)
        return folder

    def _files_before(self) -> dict[str, str]:
        """Return the hashes of the PEFT folder that is there, which a node killed before it is replaced leaves."""
        try:
            return self._files("files_before" if self.changed_file() else "files")
        except (JournalError, OSError):  # What is there is damaged, and now replaced.
            return {}
