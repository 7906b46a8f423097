"""A cache, kept between runs, of files that can be rebuilt at any time."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from common.errors import ConfigError


def cache_folder() -> Path:
    """Return `$FEDLORA_CACHE`, else `$XDG_CACHE_HOME/fedlora`, else `~/.cache/fedlora`."""
    own = os.environ.get("FEDLORA_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(shared) / "fedlora"


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """Return the file or folder `name` of the cache, made by `build(path)` if it does not exist.

    `build` writes beside the target and a rename moves the whole result into place, so no process ever sees a part.

    Raises:
        ConfigError: the cache folder cannot be written.
    """
    target = cache_folder() / name
    if target.exists():
        return target
    with _scratch_beside(target) as scratch:
        made = Path(scratch) / target.name
        build(made)
        _put(made, target)
    return target


def _scratch_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-")
    except OSError as error:
        raise ConfigError(
            f"cannot write in the cache {target.parent}: {error.strerror}; set FEDLORA_CACHE to a folder you can write"
        ) from None


def _put(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError:  # a non-empty folder is never replaced: another process was faster, and its result is equally good
        if not target.exists():
            raise
