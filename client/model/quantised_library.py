"""The library that holds weights in 4 and 8 bits, an optional extra: whether it is there, and its import."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

from common.errors import ModelError

LIBRARY, _PLACER = "bitsandbytes", "accelerate"
_NOISY = ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops")
"""Loggers that tell of every pass that it computes in another type, and of kernels that are not fetched."""


def check_library(what: str) -> None:
    """Import the library.

    Args:
        what: needs it, for the error.

    Raises:
        ModelError: it is not installed.
    """
    if lacking := [name for name in (LIBRARY, _PLACER) if find_spec(name) is None]:
        raise ModelError(
            f'{what} needs {" and ".join(lacking)}, which is not installed: pip install "fedlora[quantised]"'
        )
    _import_library()


def settle_library() -> None:
    """Import the library where it is installed, before another that would import it with what it fetches."""
    if find_spec(LIBRARY) is not None:
        _import_library()


@lru_cache(maxsize=1)
def _import_library() -> None:
    """Import bitsandbytes without the kernels that it would fetch from a hub: fedlora runs no code from there."""
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    with _without("kernels"):
        import_module(LIBRARY)
    if apple := sys.modules.get(f"{LIBRARY}.backends.mps.ops"):
        vars(apple)["_kernel_load_failed"] = True


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Let imports of a package fail while the block runs."""
    before = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        if before is not None:
            sys.modules[package] = before
