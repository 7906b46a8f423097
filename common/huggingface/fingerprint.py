"""Hashes that decide which nodes may train together: the base as stored, its tokenizer, the targets and the task.

Read from the files without torch, so that nodes that load one base in float32, bfloat16 or 4 bits have equal hashes.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from common.adapters.adapter import Shapes
from common.errors import ModelError
from common.huggingface.base_folder import read_json, safetensors_files
from common.plain_files import open_plain

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json", "merges.txt"),
    "chat_template.jinja",
)
_INCIDENTAL = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"})
"""Keys of config.json that change no logit, or only how the base is loaded."""


def fingerprint(
    folder: Path, shapes: Shapes, task: str, labels: tuple[str, ...], max_length: int, **shared: Any
) -> str:
    """Return the SHA-256 over what two nodes must share: base tensors, tokenizer, target shapes, task and labels.

    Args:
        folder: of the base model.
        shapes: (d, k) of the target modules.
        task: of the rows.
        labels: in the order that all nodes share; none if the task has none.
        max_length: tokens at which a row is cut.
        shared: further settings of the task.
    """
    content = {
        "base": base_hash(folder),
        "architecture": architecture_hash(folder),
        "tokenizer": tokenizer_hash(folder),
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "task": task,
        "labels": labels,
        "max_length": max_length,
        **shared,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=32)
def base_hash(folder: Path) -> str:
    """Return the SHA-256 over (name, dtype, shape, SHA-256 of bytes) of all tensors by name, however sharded.

    Raises:
        ModelError: the folder contains no safetensors, or a file of it is damaged.
    """
    tensors = sorted(entry for file in safetensors_files(folder) for entry in _tensors(file))
    return hashlib.sha256(json.dumps(tensors).encode()).hexdigest()


@lru_cache(maxsize=2)
def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by name; only the files' headers are read.

    Raises:
        ModelError: the folder contains no safetensors, or a file of it is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for file in safetensors_files(folder):
        try:
            with safe_open(file, framework="np") as stored:
                shapes |= {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is not a complete safetensors file ({error}); copy it again") from None
    return shapes


def architecture_hash(folder: Path) -> str:
    """Return the SHA-256 over the model's configuration: equal tensors with other heads or positions are another model.

    Raises:
        ModelError: config.json is damaged.
    """
    config = {key: value for key, value in _json(folder / "config.json").items() if key not in _INCIDENTAL}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def tokenizer_hash(folder: Path) -> str:
    """Return the SHA-256 over the tokenizer's vocabulary files and its chat template."""
    present = [folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    digests = [(file.name, _digest(file)) for file in present]
    settings = folder / "tokenizer_config.json"
    template = _json(settings).get("chat_template") if settings.is_file() else None
    return hashlib.sha256(json.dumps([digests, template]).encode()).hexdigest()


def _json(file: Path) -> dict[str, Any]:
    value = read_json(file)
    if not isinstance(value, dict):
        raise ModelError(f"{file} is not a JSON object; copy or download it again")
    return value


def _digest(file: Path) -> str:
    with open_plain(file, links=True) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _tensors(file: Path) -> Iterator[tuple[str, str, list[int], str]]:
    """Yield the name, dtype, shape and SHA-256 of each tensor in a file."""
    data = memoryview(_map_checked(file))
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(bytes(data[8:start])).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            digest = hashlib.sha256(data[start + begin : start + end]).hexdigest()
            yield name, entry["dtype"], entry["shape"], digest


def _map_checked(file: Path) -> mmap:
    """Map a file after safetensors has checked its header and sizes; safetensors itself would copy all bytes."""
    try:
        with safe_open(file, framework="np"), file.open("rb") as stream:
            return mmap(stream.fileno(), 0, access=ACCESS_READ)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is not a complete safetensors file ({error}); copy or download it again") from None
