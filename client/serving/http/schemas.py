"""Requests, checked: types and bounds here (422), options that are not supported by name (400)."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from client.serving.http.errors import ApiError
from client.serving.http.forms import one_of

Name = Annotated[str, Field(min_length=1, max_length=200)]
TokenIds = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
Prompt = Annotated[
    str | Annotated[list[str], Field(min_length=1)] | TokenIds | Annotated[list[TokenIds], Field(min_length=1)],
    one_of("a text, token ids, or a list of either, with at least one entry"),
]
Tokens = Annotated[int, Field(ge=1, lt=2**31)]

_WITHOUT_EFFECT = frozenset({"user", "metadata", "store", "safety_identifier"})
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "presence_penalty": (0, 0.0),
    "frequency_penalty": (0, 0.0),
    "logprobs": (False,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_calls": ([],),
    "annotations": ([],),
    "response_format": ({"type": "text"},),
}
"""Options that are not supported, and their values that ask for nothing."""


class _Open(BaseModel):
    """An object without its nulls; what it does not know is in `model_extra`."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, value: Any) -> Any:
        return {key: each for key, each in value.items() if each is not None} if isinstance(value, dict) else value

    def refuse_unsupported(self, place: str = "") -> None:
        """Check that nothing is set that the server does not have.

        Args:
            place: of the object in the request, before the name of a field.

        Raises:
            ApiError: something is; names it.
        """
        for key, value in (self.model_extra or {}).items():
            if key not in _WITHOUT_EFFECT and json.dumps(value) not in map(json.dumps, _NEUTRAL.get(key, ())):
                name = f"{place}{key[:100]}"
                raise ApiError(400, f"{name} = {json.dumps(value)[:100]} is not supported; leave it out", name)


class Body(_Open):
    """A request."""


class StreamOptions(_Open):
    """Whether a stream's last object has the usage; nothing hides the length of its pieces."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Generation(Body):
    """What both kinds of continuation have."""

    model: Name
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    stop: Annotated[str | list[str], one_of("a text or a list of texts")] = Field(default_factory=list)
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, without empty ones."""
        return tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop))


class CompletionBody(Generation):
    """Of /v1/completions."""

    prompt: Prompt
    max_tokens: Tokens = 16


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: str


class Message(_Open):
    """A turn of a chat; one that a client has got from here, with what it lacks as nulls, is one too."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str | list[TextPart], one_of('a text, or a list of parts with type = "text" and a text')]

    @property
    def turn(self) -> dict[str, str]:
        """The turn as the chat template reads it."""
        whole = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": whole}


class ChatBody(Generation):
    """Of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None

    def refuse_unsupported(self, place: str = "") -> None:
        """Check the messages too."""
        super().refuse_unsupported(place)
        for number, message in enumerate(self.messages):
            message.refuse_unsupported(f"messages.{number}.")


class ClassifyBody(Body):
    """Of /v1/classify."""

    model: Name
    input: Annotated[str | Annotated[list[str], Field(min_length=1)], one_of("a text or a list of texts")]


class UnloadBody(Body):
    """Of /v1/unload_lora_adapter."""

    lora_name: Name


class LoadBody(UnloadBody):
    """Of /v1/load_lora_adapter."""

    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]


AnyBody = TypeVar("AnyBody", bound=Body)


def parse(kind: type[AnyBody], body: bytes) -> AnyBody:
    """Return a request's content.

    Raises:
        ValidationError: it is not JSON, or not of this form.
        ApiError: it asks for an option that is not supported.
    """
    read = kind.model_validate_json(body)
    read.refuse_unsupported()
    return read
