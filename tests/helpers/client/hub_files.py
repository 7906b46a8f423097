"""A hub on loopback that has repositories to fetch."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "b" * 40


@dataclass
class Shelf:
    """What the hub has, and what it was asked.

    Args:
        files: content by name of the only repository.
        name: of it, with its kind, as "models/org/base".
        gated: its files need a token.
        breaks: name of a file, half of which is sent before the connection ends, once.
        refuses: name of a file that is not sent.
        lies: name of a file, whose hash is told wrongly.
    """

    files: Mapping[str, bytes]
    name: str = "models/org/base"
    gated: bool = False
    breaks: str | None = None
    refuses: str | None = None
    lies: str | None = None
    address: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def siblings(self) -> list[dict[str, object]]:
        """Return the files as the hub lists them."""
        return [
            {"rfilename": name, "size": len(data), "lfs": self._lfs(name, data)} for name, data in self.files.items()
        ]

    def _lfs(self, name: str, data: bytes) -> dict[str, object] | None:
        if not name.endswith((".safetensors", ".parquet")):
            return None
        sha = "0" * 64 if name == self.lies else hashlib.sha256(data).hexdigest()
        return {"sha256": sha, "size": len(data), "pointerSize": 130}


@contextmanager
def serving_files(shelf: Shelf) -> Iterator[Shelf]:
    """Serve a hub with this repository while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            shelf.asked.append((self.command, path, self.headers["Range"]))
            kind, _, repository = shelf.name.partition("/")
            if info := re.fullmatch(rf"/api/{kind}/{repository}(/revision/(?P<revision>.+))?", path):
                if info["revision"] not in (None, "main", COMMIT):
                    return self._refuse(404, "RevisionNotFound")
                content = {"id": repository, "sha": COMMIT, "siblings": shelf.siblings(), "private": False, "tags": []}
                return self._send(200, json.dumps(content).encode(), {}, body)
            before = "/datasets" if kind == "datasets" else ""
            if found := re.fullmatch(rf"{before}/{repository}/resolve/{COMMIT}/(?P<file>.+)", path):
                return self._file(found["file"], body)
            return self._refuse(401 if path.startswith("/api/") else 404, "RepoNotFound")

        def _file(self, name: str, body: bool) -> None:
            if shelf.gated and not self.headers["Authorization"]:
                self._refuse(401, "GatedRepo")
                return
            if name == shelf.refuses:
                self._refuse(403, "NotToday")
                return
            data = shelf.files[name]
            begin = int(re.sub(r"\D", "", (self.headers["Range"] or "bytes=0-").partition("-")[0]))
            heads = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            if self.headers["Range"]:
                heads["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            part = data[begin:]
            half = body and name == shelf.breaks
            shelf.breaks = None if half else shelf.breaks
            self._send(206 if self.headers["Range"] else 200, part, heads, body, half)

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, b"{}", {"X-Error-Code": code}, True)

        def _send(self, status: int, data: bytes, heads: Mapping[str, str], body: bool, half: bool = False) -> None:
            self.send_response(status)
            for key, value in {**heads, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data[: len(data) // 2] if half else data)
            if body and half:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        shelf.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield shelf
        finally:
            server.shutdown()
            thread.join(10)
