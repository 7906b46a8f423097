"""What a request must pass before anything reads it: host, origin, key, size and time.

A web page that the user has open can send requests to loopback. It cannot choose the headers Host and Origin: a page's
request has an Origin, and one to a name that leads to loopback (DNS rebinding) has that name as Host.
"""

import asyncio
from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.serving.http.errors import ApiError, error_answer
from client.serving.limits import Limits

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Hosts by which a server without a key may be called."""


class Guard:
    """ASGI middleware: refuses in the form of the interface, and gives the application a whole body."""

    def __init__(self, app: ASGIApp, key: str | None, limits: Limits) -> None:
        self._app, self._key, self._limits = app, key, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope), scope["path"])
            body = await self._read(Headers(scope=scope), receive)
        except ApiError as error:
            await error_answer(error)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _check(self, headers: Headers, path: str) -> None:
        if "origin" in headers:
            raise ApiError(403, "requests of web pages (with an Origin) are not answered; call from a program")
        if self._key is None and _host(headers.get("host", "")) not in LOOPBACK:
            raise ApiError(403, "without an API key only the hosts localhost, 127.0.0.1 and [::1] are answered")
        if self._key is not None and path != "/health":
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if not (compare_digest(given.encode(), self._key.encode()) and scheme.lower() == "bearer"):
                raise ApiError(401, "wrong or missing API key; send the header Authorization: Bearer KEY")

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        large = ApiError(413, f"the request has more than {self._limits.body} bytes; send fewer texts at a time")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._limits.body:
            raise large
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self._limits.body:
                        raise large
        except TimeoutError:
            seconds = self._limits.body_seconds
            raise ApiError(408, f"the request did not arrive within {seconds:g} seconds; send it again") from None
        return bytes(body)


def _host(header: str) -> str:
    """Return the host without its port."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() else header).lower()


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that gives the body once, and then what comes: the end of the connection."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
