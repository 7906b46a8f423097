"""Answers in OpenAI's form: whole, or as a stream of server-sent events."""

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from client.serving.http.errors import ComputationError, error_body
from client.serving.http.pending import Pending
from client.serving.jobs import Classified, Ended, Job, Piece
from common.settings.tasks import MULTI, REGRESSION, SINGLE, Problem

Events = Sequence[Piece | Ended | Classified]


@dataclass(frozen=True)
class Form:
    """The form of one request's answers: a completion's, or a chat's."""

    model: str
    chat: bool
    id: str = field(default_factory=lambda: uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, jobs: Sequence[Job], found: Sequence[Events]) -> dict[str, Any]:
        """Return the answer to a request that does not stream."""
        choices = [self._choice(number, *_text_and_reason(events)) for number, events in enumerate(found)]
        return self._object(choices, whole=True) | {"usage": usage(jobs, [_written(events) for events in found])}

    def piece(self, number: int, event: Piece | Ended | Classified, first: bool) -> dict[str, Any]:
        """Return an object of a stream."""
        text = event.text if isinstance(event, Piece) else ""
        reason = event.reason if isinstance(event, Ended) else None
        if not self.chat:
            return self._object([self._choice(number, text, reason)], whole=False)
        delta = ({"role": "assistant"} if first else {}) | ({"content": text} if isinstance(event, Piece) else {})
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": reason}
        return self._object([choice], whole=False)

    def last(self, jobs: Sequence[Job], written: Sequence[int]) -> dict[str, Any]:
        """Return the object of a stream that has the usage."""
        return self._object([], whole=False) | {"usage": usage(jobs, written)}

    def _choice(self, number: int, text: str, reason: str | None) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return {"index": number, **said, "logprobs": None, "finish_reason": reason}

    def _object(self, choices: list[dict[str, Any]], whole: bool) -> dict[str, Any]:
        name = ("chat.completion" if whole else "chat.completion.chunk") if self.chat else "text_completion"
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {
            "id": f"{prefix}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def _text_and_reason(events: Events) -> tuple[str, str | None]:
    text = "".join(event.text for event in events if isinstance(event, Piece))
    return text, next((event.reason for event in events if isinstance(event, Ended)), None)


def _written(events: Events) -> int:
    return max((event.written for event in events if isinstance(event, Piece)), default=0)


def usage(jobs: Sequence[Job], written: Sequence[int]) -> dict[str, int]:
    """Return the numbers of tokens, an end of text included."""
    given, new = sum(len(job.ids) for job in jobs), sum(written)
    return {"prompt_tokens": given, "completion_tokens": new, "total_tokens": given + new}


def classes(
    model: str, problem: Problem, labels: Sequence[str], found: Sequence[Events], cut: Sequence[bool]
) -> dict[str, Any]:
    """Return the answer to a classification.

    Of each text it has the likeliest label, or those that are likelier than not, and the probability of each label; or
    the number that each output gives.
    """
    data = [
        {"index": number, **_FORMS[problem](dict(zip(labels, event.answers, strict=True))), "truncated": cut[number]}
        for number, events in enumerate(found)
        for event in events
        if isinstance(event, Classified)
    ]
    return {
        "id": f"classify-{uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": data,
    }


def _class(probabilities: Mapping[str, float]) -> dict[str, Any]:
    return {"label": max(probabilities, key=lambda each: probabilities[each]), "probabilities": probabilities}


def _label_set(probabilities: Mapping[str, float]) -> dict[str, Any]:
    likely = [label for label, probability in probabilities.items() if probability > 0.5]
    return {"labels": likely, "probabilities": probabilities}


_FORMS: Mapping[str, Callable[[Mapping[str, float]], dict[str, Any]]] = {
    SINGLE: _class,
    MULTI: _label_set,
    REGRESSION: lambda numbers: {"numbers": numbers},
}


class Stream(StreamingResponse):
    """A stream of server-sent events, which ends with `[DONE]`; a client that leaves ends its jobs."""

    def __init__(self, pending: Pending, form: Form, with_usage: bool) -> None:
        super().__init__(_stream(pending, form, with_usage), media_type="text/event-stream")
        self._pending = pending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._pending.cancel()


async def _stream(pending: Pending, form: Form, with_usage: bool) -> AsyncIterator[str]:
    written, begun = [0] * len(pending.jobs), set[int]()
    try:
        async for number, event in pending.events():
            if isinstance(event, Piece):
                written[number] = event.written
            yield _line(form.piece(number, event, first=number not in begun))
            begun.add(number)
        if with_usage:
            yield _line(form.last(pending.jobs, written))
    except ComputationError as error:
        yield _line(error_body(500, str(error)))
    yield "data: [DONE]\n\n"


def _line(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
