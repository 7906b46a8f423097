"""A few fixed paths over HTTP on 127.0.0.1, read only.

Other users of the machine reach the port too: keep secret what the paths begin with. Other sites in the same browser
reach it as well: a request for another Host, as after DNS rebinding, is refused.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from re import fullmatch
from socketserver import TCPServer
from typing import Any

from common.errors import TransportError

_PATIENCE = 10.0
"""Seconds for a request to arrive; idle connections end after them."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Answer:
    """What is at a path.

    Args:
        kind: its media type.
        content: returns it; an OSError is that there is nothing now.
    """

    kind: str
    content: Callable[[], bytes]


class LoopbackServer(ThreadingHTTPServer):
    """Answers GET and HEAD of these paths, whole and exact, each request in a thread of its own.

    Args:
        port: on 127.0.0.1; 0 takes a free one.
        answers: by path.
        policy: the Content-Security-Policy of every answer.

    Raises:
        TransportError: the port cannot be listened at.
    """

    daemon_threads = True

    def __init__(self, port: int, answers: Mapping[str, Answer], policy: str) -> None:
        try:
            super().__init__(("127.0.0.1", port), partial(_Handler, answers, policy))
        except OSError as error:
            what = f"--port {port}: cannot listen at 127.0.0.1:{port}: {error.strerror}"
            raise TransportError(f"{what}; choose another port, or none for a free one") from error

    def server_bind(self) -> None:
        """Bind without a look-up of the machine's name, which may wait for a network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave out who hung up."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE
    server_version, sys_version = "fedlora", ""

    def __init__(self, answers: Mapping[str, Answer], policy: str, *args: Any) -> None:
        self._answers, self._policy = answers, policy
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer with headers and content."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._answer()

    def _answer(self) -> None:
        if not self._is_ours():
            return self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
        with suppress(OSError):
            if found := self._answers.get(self.path):
                return self._send(HTTPStatus.OK, found.kind, found.content())
        return self.send_error(HTTPStatus.NOT_FOUND)

    def _is_ours(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and fullmatch(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", hosts[0]) is not None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with the status alone; nothing of the request comes back."""
        status = HTTPStatus(code)
        status = HTTPStatus.METHOD_NOT_ALLOWED if status is HTTPStatus.NOT_IMPLEMENTED else status
        self._send(status, "text/plain", status.phrase.encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        whole = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content))}
        allow = {"Allow": "GET, HEAD"} if status is HTTPStatus.METHOD_NOT_ALLOWED else {}
        for name, value in (_HEADERS | whole | allow | {"Content-Security-Policy": self._policy}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: it would be a line every two seconds."""
