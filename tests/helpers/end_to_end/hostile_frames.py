"""A run of three honest nodes beside some that send other frames than a node does, or in another way."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import grpc

from common.protocol.channel import FRAME
from tests.helpers.end_to_end.command import Ended, end
from tests.helpers.end_to_end.numpy_project import NumpyProject, RunningNode
from tests.helpers.end_to_end.transport import until
from tests.helpers.server.exchange import NumpyNode

HONEST = ("ada", "bob", "cyd")
RANK = 2

Tamper = Callable[[list[bytes]], Iterable[bytes]]
"""Returns what a node sends in place of the frames of an honest update."""


def head_of(frames: list[bytes]) -> dict[str, Any]:
    """Return the header in a first frame."""
    plain: dict[str, Any] = json.loads(frames[0][4:])
    return plain


def first_frame(plain: Mapping[str, Any]) -> bytes:
    """Return the first frame with this header."""
    text = json.dumps(plain).encode()
    return len(text).to_bytes(4, "little") + text


def announcing(*arrays: list[Any]) -> Tamper:
    """Send zeros as these arrays: name, dtype, shape, type and bytes of each."""

    def tamper(frames: list[bytes]) -> Iterator[bytes]:
        plain = head_of(frames)
        plain["records"] = [["adapter", "arrays", list(arrays)] if r[0] == "adapter" else r for r in plain["records"]]
        zeros = (bytes(min(FRAME, size - at)) for *_, size in arrays for at in range(0, size, FRAME))
        return chain([first_frame(plain)], zeros)

    return tamper


@dataclass(frozen=True)
class Hostile:
    """A node that misbehaves in its replies to train.

    Args:
        tamper: changes their frames.
        compression: of the calls that carry them.
        everywhere: the call that opens the stream is compressed too.
    """

    tamper: Tamper = list
    compression: grpc.Compression = grpc.Compression.NoCompression
    everywhere: bool = False


class _Compressing:
    """A channel that compresses replies to train."""

    def __init__(self, channel: grpc.Channel, node: "HostileNode") -> None:
        self._channel, self._node = channel, node

    def __enter__(self) -> "_Compressing":
        return self

    def __exit__(self, *failure: object) -> None:
        self._channel.close()

    def unary_stream(self, path: str) -> Any:
        compression = self._node.hostile.compression if self._node.hostile.everywhere else None
        return partial(self._channel.unary_stream(path), compression=compression)

    def unary_unary(self, path: str) -> Any:
        return self._channel.unary_unary(path)

    def stream_unary(self, path: str) -> Any:
        call = self._channel.stream_unary(path)
        return lambda frames: call(
            frames, compression=self._node.hostile.compression if self._node.asked == "train" else None
        )


class HostileNode(RunningNode):
    """Runs until the server ends it."""

    def __init__(self, project: NumpyProject, name: str, hostile: Hostile, wait: Callable[[], None]) -> None:
        self.hostile, self.asked = hostile, ""
        super().__init__(project, NumpyNode(name, RANK), partial(_after, wait))

    def _run(self) -> None:
        answers, tls = self.link._responder, self.link._tls
        credentials = grpc.ssl_channel_credentials(tls.ca_pem, tls.key_pem, tls.certificate_pem)
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", FRAME)]
        self.link._channel = lambda: _Compressing(grpc.secure_channel(self.link._server, credentials, options), self)
        honest = answers.reply_to
        answers.reply_to = lambda message: self._tampered(message.metadata.message_type, honest(message))
        super()._run()

    def _tampered(self, kind: str, frames: Iterator[bytes] | None) -> Iterable[bytes] | None:
        self.asked = kind
        return iter(self.hostile.tamper(list(frames))) if frames and kind == "train" else frames


def _after(wait: Callable[[], None], kind: str, asked: Any, reply: Any) -> Any:
    if kind == "query":
        wait()
    return reply


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Args:
        ended: the server's end.
        growth: of the server's resident memory, in bytes, from when all nodes were connected to its peak.
        refusals: why each hostile node ended, as it was told.
    """

    project: NumpyProject
    ended: Ended
    growth: int
    refusals: Mapping[str, str]


def run_among(
    folder: Path, hostile: Mapping[str, Hostile], meanwhile: Callable[[NumpyProject], None] = lambda project: None
) -> Outcome:
    """Run a server with the honest nodes and these; `meanwhile` is called when all are connected."""
    project, go = NumpyProject(folder), threading.Event()
    for name in (*HONEST, *hostile):
        project.admit(name)
    with project.listening() as server, ExitStack() as running:
        wait = lambda: until(go.is_set, 120)  # noqa: E731
        bad = {name: HostileNode(project, name, each, wait) for name, each in hostile.items()}
        good = [project.node(NumpyNode(name, RANK), partial(_after, wait)) for name in HONEST]
        for node in (*bad.values(), *good):
            running.callback(node.stop)
        names = [*HONEST, *(name for name, each in hostile.items() if not each.everywhere)]
        until(lambda: {f"node {name} is connected" for name in names} <= set(project.log), 60)
        meanwhile(project)
        memory = Peak(server.pid)
        go.set()
        ended = end(server)
    return Outcome(project, ended, memory.growth, {name: node.refusal for name, node in bad.items()})


class Peak:
    """The growth of a process's resident memory from now on, read until the process ends (Linux)."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")  # resets the peak to what is resident now
        self._before = self._peak = self._read("VmRSS")
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def growth(self) -> int:
        """The most bytes by which it grew so far."""
        return self._peak - self._before

    def _watch(self) -> None:
        with suppress(OSError, StopIteration):
            while True:
                self._peak = max(self._peak, self._read("VmHWM"))
                threading.Event().wait(0.01)

    def _read(self, field: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) * 1024
