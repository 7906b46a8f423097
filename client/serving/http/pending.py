"""The jobs of one request: their events as they come, and their end when the client is gone."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial

from fastapi import Request

from client.serving.engine import Engine
from client.serving.http.errors import ApiError, ComputationError
from client.serving.jobs import Classified, Ended, Event, Failed, Job, Piece


class Pending:
    """Jobs that wait for the engine or are computed by it; their events come to the loop that made this."""

    def __init__(self, engine: Engine, jobs: Sequence[Job]) -> None:
        """Submit the jobs.

        Raises:
            BusyError: too many texts wait already.
        """
        self.jobs = jobs
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        for number, job in enumerate(jobs):
            job.deliver = partial(self._deliver, number)
        engine.submit(jobs)

    def _deliver(self, number: int, event: Event) -> None:
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self._events.put_nowait, (number, event))

    def cancel(self) -> None:
        """Let the engine compute nothing more for this request."""
        for job in self.jobs:
            job.cancelled = True

    async def events(self) -> AsyncIterator[tuple[int, Piece | Ended | Classified]]:
        """Yield each event with the number of its job, until all have ended.

        Raises:
            ComputationError: a job failed.
        """
        open_jobs = len(self.jobs)
        while open_jobs:
            number, event = await self._events.get()
            if isinstance(event, Failed):
                raise ComputationError(event.reason)
            yield number, event
            open_jobs -= not isinstance(event, Piece)

    async def collect(self, request: Request) -> list[list[Piece | Ended | Classified]]:
        """Return the events of each job; compute no more of them if the client closes its connection meanwhile.

        Raises:
            ComputationError: a job failed.
            ApiError: the client is gone.
        """
        gathering, leaving = asyncio.ensure_future(self._gather()), asyncio.ensure_future(_disconnect(request))
        try:
            await asyncio.wait({gathering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not gathering.done():
                raise ApiError(499, "the client closed its connection")  # which nobody reads
            return gathering.result()
        finally:
            gathering.cancel()
            leaving.cancel()
            self.cancel()

    async def _gather(self) -> list[list[Piece | Ended | Classified]]:
        found: list[list[Piece | Ended | Classified]] = [[] for _ in self.jobs]
        async for number, event in self.events():
            found[number].append(event)
        return found


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
