"""The network of a run: a namespace of its own where that may be made, and a relay before the server for each node."""

import asyncio
import ctypes
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from socket import socket
from typing import Any

_USER, _OWN = 0x10000000, 0x40000000 | 0x00020000
"""Flags of `unshare`: other user ids; a network and mounts of its own."""
_QUEUES = {
    "netem": ("netem", "delay", "20ms", "10ms", "loss", "3%", "duplicate", "2%", "corrupt", "1%"),
    "slow": ("tbf", "rate", "1mbit", "burst", "32kbit", "latency", "400ms"),
}
"""Words of `tc`: packets that are late, lost, doubled and damaged; a slow line."""
Message = tuple[str, str, float]
"""A node, what happens to its connections, and for how many seconds."""


def enter_namespace() -> str:
    """Give this process, which has one thread, its own network and mounts; return why that cannot be, or nothing."""
    if missing := [word for word in ("ip", "mount") if not shutil.which(word)]:
        return f"no {' and no '.join(missing)}"
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_OWN):
        if libc.unshare(_USER | _OWN):
            return f"no namespace: {os.strerror(ctypes.get_errno())}"
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    return _call("ip", "link", "set", "lo", "up") or _call("mount", "--make-rprivate", "/")


def set_link(up: bool) -> str:
    """Cut the whole network of the namespace, or mend it."""
    return _call("ip", "link", "set", "lo", "up" if up else "down")


def set_queue(name: str) -> str:
    """Let packets pass the queue of this name, or again none; return why the kernel cannot, or nothing."""
    if not name:
        return _call("tc", "qdisc", "del", "dev", "lo", "root")
    return _call("tc", "qdisc", "add", "dev", "lo", "root", *_QUEUES[name])


def mount_small(folder: Path) -> str:
    """Let a folder be a disk of 8 MiB; return why that is not possible, or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    return _call("mount", "-t", "tmpfs", "-o", "size=8m", "chaos", str(folder))


def _call(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    return "" if done.returncode == 0 else f"{' '.join(words[:4])}: {done.stderr.strip()}"


def relay(doors: dict[str, socket], server: int, orders: Any) -> None:
    """Carry the connections to each node's door to the server's; `orders` is a pipe of `Message`. Never returns."""
    asyncio.run(_Relay(server, orders).run(doors))


class _Relay:
    def __init__(self, server: int, orders: Any) -> None:
        self._server, self._orders = server, orders
        self._does: dict[str, str] = {}
        self._open: dict[str, set[asyncio.StreamWriter]] = {}

    async def run(self, doors: dict[str, socket]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._orders.fileno(), self._obey)
        for name, door in doors.items():
            await asyncio.start_server(lambda r, w, name=name: self._carry(name, r, w), sock=door)
        await asyncio.Event().wait()

    def _obey(self) -> None:
        try:
            name, what, seconds = self._orders.recv()
        except EOFError:
            os._exit(0)
        self._does[name] = what
        if what == "cut":
            self._close(name)
        asyncio.get_running_loop().call_later(seconds, self._does.pop, name, None)

    def _close(self, name: str) -> None:
        for writer in self._open.pop(name, ()):
            writer.transport.abort()

    async def _carry(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._does.get(name) == "cut":
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("localhost", self._server)
        except OSError:
            writer.transport.abort()
            return
        self._open.setdefault(name, set()).update((writer, back))
        await asyncio.gather(self._pour(name, reader, back), self._pour(name, there, writer))
        self._open.get(name, set()).difference_update((writer, back))

    async def _pour(self, name: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(2**16):
                sink.write(await self._pass(name, data))
                await sink.drain()
        with suppress(OSError):
            sink.close()

    async def _pass(self, name: str, data: bytes) -> bytes:
        """Return what of these bytes goes on, late if that is ordered."""
        what = self._does.get(name)
        if what == "delay":
            await asyncio.sleep(0.05)
        if what == "corrupt":
            return data[:-1] + bytes([data[-1] ^ 1])
        if what == "truncate":
            asyncio.get_running_loop().call_later(0.01, self._close, name)
            return data[: len(data) // 2]
        return data
