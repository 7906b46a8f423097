"""What a node has saved of a run: its settings and its global update, which its folder may not contradict."""

from dataclasses import dataclass
from pathlib import Path

from client.model.base_model import BaseModel
from client.results.folder import NodeFolder
from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter
from common.errors import JournalError, ModelError
from common.huggingface.fingerprint_parts import BASE, folder_parts
from common.settings.node import Node


@dataclass(frozen=True, eq=False)
class Saved:
    """A node's settings, the global update that it has saved, and the hash of the base model that this changes."""

    node: Node
    adapter: Adapter
    base_hash: str


def read_saved(path: Path) -> Saved:
    """Read a node's folder of a run: its `update`, since a killed node may have left the PEFT folder an older one.

    Raises:
        JournalError: there is no update yet, a file is missing or damaged, or one is of another run or update.
        ConfigError: the node's settings cannot be read.
    """
    folder = NodeFolder.open(path)
    if (update := folder.update) is None:
        raise JournalError(f"{path} has no adapter yet; the node saves one each minute in which it trains")
    peft = path / "adapter"
    if change := folder.foreign_file():
        raise JournalError(
            f"{change}: it was not made of {path / 'update'}; restore it from a copy, or remove {peft}, which no "
            "command needs"
        )
    return Saved(folder.node, decode_adapter(update.buffer).astype("f4"), update.base_hash)


def check_base(stated: str, base: BaseModel, where: Path, remedy: str) -> None:
    """Check that a base model is the one that an adapter states, if it states one.

    Args:
        stated: SHA-256 of the base that the adapter was trained on; empty if it is not known.
        base: to add the adapter to.
        where: the adapter is, for the error.
        remedy: for the error.

    Raises:
        ModelError: it is another one.
    """
    if stated and stated != (own := folder_parts(base.folder)[BASE]):
        raise ModelError(
            f"{where} was trained on the base model {stated:.12} (SHA-256), and {base.folder} is {own:.12}; {remedy}"
        )
