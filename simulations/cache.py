"""A cache, kept between runs, of files that can be rebuilt at any time."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from common.atomic_files import make_atomically
from common.errors import ConfigError


def cache_folder() -> Path:
    """Return `$FEDLORA_CACHE`, else `$XDG_CACHE_HOME/fedlora`, else `~/.cache/fedlora`."""
    own = os.environ.get("FEDLORA_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(shared) / "fedlora"


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """Return the file or folder `name` of the cache, made by `build(path)` if it does not exist.

    `build` makes it beside the target, and the whole result is moved into place, so no process ever sees a part.

    Raises:
        ConfigError: the cache folder cannot be written.
    """
    target = cache_folder() / name
    if not target.exists():
        _check_writable(target.parent)
        try:
            with make_atomically(target) as made:
                build(made)
        except OSError:  # where another process was faster, its result is equally good
            if not target.exists():
                raise
    return target


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write in the cache {folder}: {error.strerror}; set FEDLORA_CACHE to a folder you can write"
        ) from None
