"""A process's operations on files below a folder, counted; at a chosen one, it is killed, or the disk is full."""

import builtins
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate")
_NEEDS_SPACE = ("open", "os.link", "os.mkdir", "write")

Act = Callable[[str], None]
"""Called before the operation of this name."""


class FileOperations:
    """Counts from 1, files with `part` in their path only; calls `act` before operation `at` and the `more` after it.

    The kernel's calls are seen as Python makes them: audit events, `os.fsync`, and files that are written through
    `_Written`, since the writes of a file have no audit event.
    """

    def __init__(self, folder: Path, at: int, act: Act, more: int = 0, part: str = "") -> None:
        self.made, self._part, self._folder, self._act, self._lock = 0, part, str(folder.resolve()), act, RLock()
        self._last, self._at = at + more, at

    def install(self) -> None:
        """Count from now on, for as long as the process lives."""
        sys.addaudithook(self._on_event)
        fsync, self._open = os.fsync, io.open

        def counted_fsync(descriptor: int) -> None:
            if self._is_ours(descriptor):
                self.step("fsync")
            fsync(descriptor)

        os.fsync, io.open, builtins.open = counted_fsync, self._open_counted, self._open_counted  # type: ignore

    def step(self, name: str) -> None:
        """Count one operation."""
        with self._lock:
            self.made += 1
            due = self._at <= self.made <= self._last
        if due:
            self._act(name)

    def _on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _EVENTS or isinstance(args[0], int):  # A descriptor is open already.
            return
        reads = event == "open" and not (isinstance(args[2], int) and args[2] & _WRITING)
        if not reads and self._is_ours(args[0]):
            self.step(event)

    def _is_ours(self, path: object) -> bool:
        """Return whether a path is in the folder; one relative to a descriptor is, as only removal uses these."""
        if isinstance(path, int):
            path = Path(f"/proc/self/fd/{path}").readlink()
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return self._part in text and (not text.startswith("/") or text.startswith(self._folder))

    def _open_counted(self, file: Any, mode: str = "r", buffering: int = -1, *text: Any, **more: Any) -> Any:
        writes = {*mode} & {*"wax+"} and self._is_ours(file)
        if not writes:
            return self._open(file, mode, buffering, *text, **more)
        kept = {key: more.pop(key) for key in ("closefd", "opener") if key in more}
        raw = _Written(self, file, mode.replace("b", "").replace("t", ""), **kept)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **more)


class _Written(io.FileIO):
    """A file whose writes are counted; at the chosen one, half of the bytes are written first."""

    def __init__(self, operations: FileOperations, *args: Any, **kwargs: Any) -> None:
        self._operations = operations
        super().__init__(*args, **kwargs)

    def write(self, data: Any) -> int:
        def half() -> None:
            os.write(self.fileno(), bytes(data)[: len(data) // 2])

        _HALF.append(half)
        try:
            self._operations.step("write")
        finally:
            _HALF.remove(half)
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self._operations.step("truncate")
        return super().truncate(size)


_HALF: list[Callable[[], None]] = []
"""Writes the first half of what is being written."""


def kill(name: str) -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def tear(name: str) -> None:
    """End this process in the middle of a write."""
    if name == "write":
        _HALF[-1]()
    kill(name)


def refuse(name: str) -> None:
    """Let an operation that needs space fail, as on a full disk, when part of it is written."""
    if name in _NEEDS_SPACE:
        if name == "write":
            _HALF[-1]()
        raise OSError(28, "No space left on device")
