"""A client that leaves frees its rows; a body that never comes is not waited for (client/serving/http/)."""

import asyncio
import json

import pytest

from client.serving.http.app import make_app, make_service
from client.serving.jobs import Ended
from client.serving.limits import Limits
from client.serving.models import Models


class Caller:
    """One request to an application as its server passes it on, and what the engine told of its jobs."""

    def __init__(self, trained, limits, **body):
        self.service = make_service(trained, Models(trained, "mine"), limits)
        self.app = make_app(self.service, None, limits)
        self.body, self.sent, self.jobs, self.events = json.dumps(body).encode(), [], [], []
        self.leave, submit = asyncio.Event(), self.service.engine.submit
        self.service.engine.submit = lambda jobs: (self.watch(jobs), submit(jobs))

    def watch(self, jobs):
        self.jobs += jobs
        for job in jobs:
            deliver = job.deliver
            job.deliver = lambda event, deliver=deliver: (self.events.append(event), deliver(event))

    async def call(self, bodies, leaves=True):
        """Send the body in these parts; the client leaves as soon as the engine has told of something, or stays."""
        parts = [{"type": "http.request", "body": body, "more_body": more} for body, more in bodies]

        async def receive():
            if parts:
                return parts.pop(0)
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            self.sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"", "query_string": b""}
        scope |= {"headers": [(b"host", b"127.0.0.1")], "scheme": "http", "http_version": "1.1"}
        async with self.app.router.lifespan_context(self.app):
            async with asyncio.timeout(60):
                calling = asyncio.ensure_future(
                    self.app({**scope, "root_path": "", "asgi": {"version": "3.0"}}, receive, send)
                )
                await self.once_begun(calling, leaves)
                await calling
                while self.service.engine._model.jobs:
                    await asyncio.sleep(0.01)

    async def once_begun(self, calling, leaves):
        while not (self.events or calling.done()):
            await asyncio.sleep(0.001)
        if leaves:
            self.leave.set()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "stays"])
def test_a_client_that_leaves_frees_its_rows(llama, stream, leaves):
    async def ask():
        body = {"model": llama.base.folder.name, "prompt": [[20, 21], [30, 31]], "temperature": 0}
        caller = Caller(llama, Limits(), **body, max_tokens=500, stream=stream)
        await caller.call([(caller.body, False)], leaves)
        return caller

    caller = asyncio.run(ask())
    assert len(caller.jobs) == 2
    ends = [event.reason for event in caller.events if isinstance(event, Ended)]
    assert ends == ([] if leaves else ["length", "length"])


def test_a_body_that_never_comes_is_408(llama):
    async def wait():
        caller = Caller(llama, Limits(body_seconds=0.1))
        await caller.call([(b"{", True)])
        return caller

    caller = asyncio.run(wait())
    assert caller.sent[0]["status"] == 408
    assert "did not arrive within 0.1 seconds" in caller.sent[1]["body"].decode()
    assert caller.jobs == []
