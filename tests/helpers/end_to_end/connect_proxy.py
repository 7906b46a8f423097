"""A small HTTP proxy that knows CONNECT only."""

import threading
from base64 import b64encode
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR, create_connection, socket
from urllib.parse import quote


class ConnectProxy:
    """Refuses all with `status`, or those without this `user:password`.

    `asked` are the hosts that it was asked for, `carried` the bytes that passed.
    """

    def __init__(self, status: int = 200, user: str | None = None) -> None:
        self.asked: list[str] = []
        self._carried: list[int] = []
        proxy, expected = self, user and f"Basic {b64encode(user.encode()).decode()}"

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                proxy.asked.append(self.path)
                if status != 200 or self.headers.get("Proxy-Authorization") != expected:
                    self.send_error(status if status != 200 else 407)
                    return
                host, _, port = self.path.rpartition(":")
                try:
                    server = create_connection((host, int(port)), 10)
                except OSError:
                    self.send_error(502)
                    return
                with server:
                    server.settimeout(None)
                    self.send_response_only(200)
                    self.end_headers()
                    back = threading.Thread(target=proxy.pour, args=(server, self.connection))
                    back.start()
                    proxy.pour(self.connection, server)
                    back.join()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://{quote(user, safe=':') + '@' if user else ''}127.0.0.1:{self._server.server_port}"

    @property
    def carried(self) -> int:
        return sum(self._carried)

    def close(self) -> None:
        self._server.shutdown()
        self._server.socket.close()

    def pour(self, source: socket, sink: socket) -> None:
        """Pass on what comes, and then that nothing more will."""
        with suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
                self._carried.append(len(data))
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(SHUT_RDWR)
