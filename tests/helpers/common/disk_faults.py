"""Disks that refuse: files beyond a size, as on a full disk, and calls that fail."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CALLS = ("open", "fsync", "link", "replace")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write a file beyond `size` bytes, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fail_at(patch: pytest.MonkeyPatch, step: int) -> list[str]:
    """Let one of the calls that put something on the disk fail; returns the calls made so far."""
    made: list[str] = []

    def failing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            if len(made) - 1 == step:
                raise OSError(5, "Input/output error")
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        patch.setattr(os, name, failing(name, getattr(os, name)))
    return made
