"""From requests to jobs: token ids as training made them, within the model's positions and the server's limits."""

import secrets
from collections.abc import Sequence
from threading import Lock

from client.data.chats.reply import reply_prompt
from client.data.tokens import prompt_ids, text_ids
from client.model.base_model import BaseModel
from client.serving.http.errors import ApiError
from client.serving.http.schemas import ChatBody, ClassifyBody, CompletionBody, Generation
from client.serving.jobs import Job, Sampling
from client.serving.limits import Limits
from client.serving.models import Served

REPLY = 512
"""Most tokens of a chat's reply, unless the request says otherwise."""


class Texts:
    """The reader of requests for one base; one at a time, as a tokenizer keeps its truncation as state."""

    def __init__(self, base: BaseModel, max_length: int, limits: Limits, fold: bool = False) -> None:
        self._base, self._max_length, self._limits, self._fold = base, max_length, limits, fold
        self._room = min(base.positions or limits.tokens, limits.tokens)
        self._words = base.model.get_input_embeddings().num_embeddings
        self._reading = Lock()

    def completion(self, body: CompletionBody, model: Served) -> list[Job]:
        """Return a job for each prompt.

        Raises:
            ApiError: a prompt is empty, too long or has unknown ids, or there are too many.
        """
        prompts = _split(body.prompt)
        self._check_count("prompt", len(prompts))
        with self._reading:
            ids = [prompt_ids(self._base.tokenizer, each) if isinstance(each, str) else each for each in prompts]
        return [self._job(body, model, each, n, body.max_tokens, "prompt") for n, each in enumerate(ids)]

    def chat(self, body: ChatBody, model: Served) -> list[Job]:
        """Return the job of a reply.

        Raises:
            ApiError: the chat is too long or ends with the assistant's turn.
            DataError: there is no chat template, or it rejects the chat.
        """
        if body.messages[-1].role == "assistant":
            raise ApiError(400, "messages ends with the assistant's turn; end with the one to reply to", "messages")
        with self._reading:
            ids = reply_prompt(self._base.tokenizer, [message.turn for message in body.messages], self._fold)
        tokens = body.max_completion_tokens or body.max_tokens or max(1, min(REPLY, self._room - len(ids)))
        return [self._job(body, model, ids, 0, tokens, "messages")]

    def classify(self, body: ClassifyBody, model: Served) -> tuple[list[Job], list[bool]]:
        """Return a job for each text, and whether it was cut at max_length, as in training and evaluation.

        Raises:
            ApiError: there are too many, or one is empty.
        """
        texts, most = [body.input] if isinstance(body.input, str) else body.input, self._max_length
        self._check_count("input", len(texts))
        if not all(map(str.strip, texts)):
            raise ApiError(400, "input has an empty text; leave it out", "input")
        with self._reading:
            ids = text_ids(self._base.tokenizer, texts, truncation=True, max_length=most)
            longer = text_ids(self._base.tokenizer, texts, truncation=True, max_length=most + 1)
        cut = [len(more) > len(each) for each, more in zip(ids, longer, strict=True)]
        return [Job(each, model.lane) for each in ids], cut

    def _check_count(self, param: str, count: int) -> None:
        if count > self._limits.prompts:
            raise ApiError(400, f"{param} has {count} texts, of at most {self._limits.prompts}; send fewer", param)

    def _job(self, body: Generation, model: Served, ids: list[int], number: int, tokens: int, param: str) -> Job:
        if not ids:
            raise ApiError(400, f"{param} has no token; give the text to continue", param)
        if len(ids) + tokens > self._room:
            raise ApiError(
                400,
                f"{param} has {len(ids)} tokens, which with max_tokens = {tokens} exceed the model's {self._room} "
                "positions; shorten one of them",
                param,
            )
        if max(ids) >= self._words:
            raise ApiError(400, f"{param} has the token {max(ids)}, of a model with {self._words} tokens", param)
        if len(body.stops) > self._limits.stops:
            raise ApiError(400, f"stop has {len(body.stops)} strings, of at most {self._limits.stops}", "stop")
        return Job(ids, model.lane, tokens, _sampling(body, number), body.stops)


def _sampling(body: Generation, number: int) -> Sampling:
    """Return a prompt's own sampling: those of one request draw different tokens."""
    seed = secrets.randbits(63) if body.seed is None else (body.seed + number) % 2**63
    return Sampling(body.temperature, body.top_p, seed)


def _split(prompt: str | Sequence[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [[each for each in prompt if isinstance(each, int)]]
    return [each for each in prompt if not isinstance(each, int)]
