"""The network of a run: a namespace of its own where that may be made, and a relay before the server for each node."""

import asyncio
import ctypes
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

_NEW = {"user": 0x10000000, "network": 0x40000000}
Message = tuple[str, str, float]
"""A node, what happens to its connections, and for how many seconds."""


def enter_namespace() -> str:
    """Give this process, which has one thread, a network of its own; return why that is not possible, or nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW["network"]):
        if libc.unshare(_NEW["user"] | _NEW["network"]):
            return f"no namespace: {os.strerror(ctypes.get_errno())}"
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    return _call("ip", "link", "set", "lo", "up")


def set_link(up: bool) -> str:
    """Cut the whole network of the namespace, or mend it."""
    return _call("ip", "link", "set", "lo", "up" if up else "down")


def set_netem(on: bool) -> str:
    """Let packets be late, lost, doubled and damaged, or not; return why the kernel cannot, or nothing."""
    if not on:
        return _call("tc", "qdisc", "del", "dev", "lo", "root")
    spoilt = "delay 20ms 10ms loss 3% duplicate 2% corrupt 1%".split()
    return _call("tc", "qdisc", "add", "dev", "lo", "root", "netem", *spoilt)


def _call(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    return "" if done.returncode == 0 else f"{' '.join(words[:4])}: {done.stderr.strip()}"


def relay(ports: dict[str, int], server: int, orders: Any) -> None:
    """Carry the connections to each node's port to the server's; `orders` is a pipe of `Message`. Never returns."""
    asyncio.run(_Relay(server, orders).run(ports))


class _Relay:
    def __init__(self, server: int, orders: Any) -> None:
        self._server, self._orders = server, orders
        self._does: dict[str, str] = {}
        self._open: dict[str, set[asyncio.StreamWriter]] = {}

    async def run(self, ports: dict[str, int]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._orders.fileno(), self._obey)
        for name, port in ports.items():
            await asyncio.start_server(lambda r, w, name=name: self._carry(name, r, w), "localhost", port)
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
