"""A hub on loopback: the few endpoints that an upload of small files needs, and what came to them."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """What a hub was sent.

    Args:
        address: of the hub.
        refuses: status with which it answers a commit; None takes it.
    """

    def __init__(self, address: str, refuses: int | None) -> None:
        self.address, self.refuses = address, refuses
        self.created: list[dict[str, object]] = []
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.paths: list[str] = []

    def answer(self, path: str, body: bytes) -> tuple[int, object]:
        """Return status and content of the answer to a request."""
        self.paths.append(path)
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return 200, {"url": f"{self.address}/org/mine", "name": "org/mine"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/models/org/mine/preupload/main":
            asked = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]}
        if path == "/api/models/org/mine/commit/main":
            return self._commit(body)
        return 404, {"error": f"nothing at {path}"}

    def _commit(self, body: bytes) -> tuple[int, object]:
        if self.refuses:
            return self.refuses, {"error": "the disk of the hub is full"}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return 200, {"commitUrl": f"{self.address}/org/mine/commit/{'a' * 40}", "commitOid": "a" * 40}


@contextmanager
def serving_hub(refuses: int | None = None) -> Iterator[Hub]:
    """Serve a hub while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            hub.tokens.add(self.headers["Authorization"])
            status, content = hub.answer(self.path.partition("?")[0], body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_port}", refuses)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join(10)
