"""A gRPC server that takes calls of its methods alone.

gRPC's own main loop decodes the method's name of every other call as UTF-8, and a name that is not ends the loop, and
so the server, for everybody. Here that name is never decoded, and the call is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import grpc
from grpc._cython import cygrpc

Refuse = Callable[[Any], Awaitable[None]]
"""Ends a call, by its context."""


class _Calls(cygrpc.AioServer):  # type: ignore[misc]
    """Calls whose method is registered go to gRPC's loop, the others to `refuse`."""

    refuse: Refuse

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Future[Any]":
        if method is None:
            return asyncio.ensure_future(self._refuse_others())
        future: asyncio.Future[Any] = super()._make_request_call_future(method)
        return future

    async def _refuse_others(self) -> None:
        refusing = set[asyncio.Task[None]]()
        while True:
            state = await self._request_call()
            context = cygrpc._ServicerContext(state, None, None, asyncio.get_running_loop())
            refusing.add(task := asyncio.ensure_future(self._refuse_one(context)))  # the loop keeps no reference
            task.add_done_callback(refusing.discard)

    async def _refuse_one(self, context: Any) -> None:
        with suppress(grpc.aio.AbortError, cygrpc.ExecuteBatchError):  # the second if the caller has gone
            await self.refuse(context)


def make_server(service: str, methods: Mapping[str, Any], refuse: Refuse, options: Iterable[tuple[str, Any]]) -> Any:
    """Return a `grpc.aio` server that is not started.

    Args:
        service: name of the service.
        methods: its methods, by name.
        refuse: ends a call of any other method.
        options: of the server's channels.
    """
    server = grpc.aio.server()
    server._server = _Calls(server._loop, None, (), (), tuple(options), None)
    server._server.refuse = refuse
    server.add_registered_method_handlers(service, methods)
    return server
