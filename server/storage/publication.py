"""The published adapter of a run, `adapter/`: a PEFT folder whose files are those that the log's last line hashes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.adapters.adapter import Adapter
from common.errors import JournalError
from common.huggingface.fingerprint_parts import BASE
from common.huggingface.model_description import ModelDescription
from common.huggingface.peft_folder import render_peft_folder, write_files
from common.published import file_hashes, find_change


class AdapterFolder:
    """Publishes global updates.

    Args:
        path: of the folder.
        base: path or name of the base model, which the folder names.
    """

    def __init__(self, path: Path, base: str) -> None:
        self._path, self._base = path, base
        self._prepared: dict[str, bytes] = {}

    def prepare(self, adapter: Adapter, model: ModelDescription) -> dict[str, Any]:
        """Render the files of a global update, and return what the log holds of them; nothing is written yet."""
        self._prepared = _render(adapter, model, self._base)
        return {"base_name": self._base, "files": file_hashes(self._prepared)}

    def publish(self, adapter: Adapter, model: ModelDescription, entry: Mapping[str, Any]) -> None:
        """Let the folder be that of a committed round; one that is already so is left alone.

        Args:
            adapter: the global update after the round.
            model: describes its modules.
            entry: the round's line of the log; an earlier release recorded no hashes in it.

        Raises:
            JournalError: the update does not give the bytes that the log states.
            OSError: a file cannot be written.
        """
        files, self._prepared = self._prepared, {}
        hashes = entry.get("files")
        if not files or file_hashes(files) != hashes:
            if hashes and find_change(self._path, hashes) is None:
                return
            files = _render(adapter, model, entry.get("base_name", self._base))
            _check_rendered(files, entry, self._path)
        write_files(self._path, files)


def _check_rendered(files: Mapping[str, bytes], entry: Mapping[str, Any], folder: Path) -> None:
    if "files" in entry and file_hashes(files) != entry["files"]:
        raise JournalError(
            f"{folder} is not what round {entry['round']} published, and this release or machine renders other bytes "
            "from its checkpoint; restore the folder from a copy, or run the command again where the run was made"
        )


def _render(adapter: Adapter, model: ModelDescription, base: str) -> dict[str, bytes]:
    base_hash = model.parts.get(BASE, "")
    return render_peft_folder(adapter.astype("f4"), model.head, base, model.task, model.embeddings, base_hash)
