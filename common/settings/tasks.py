"""Tasks, and the settings of their rows, without PyTorch; the training objective of each is in client/objectives."""

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from common.errors import nearest
from common.settings.marks import AddedLater
from common.settings.types import _STRICT, Count, Positive


@plain_dataclass(frozen=True)
class Task:
    """A task, as far as it is known without a model.

    Args:
        peft: PEFT's name for the kind of model.
        columns: keys of `RowSettings` that name the columns to read.
        labels: each row has one of the labels that all nodes share.
        perplexity: exp(loss) is one, since the loss is a mean over tokens.
        shared: keys of `RowSettings` that nodes must share to train together, besides labels and max_length.
    """

    peft: str
    columns: tuple[str, ...]
    labels: bool = False
    perplexity: bool = False
    shared: tuple[str, ...] = ()

    @property
    def causal(self) -> bool:
        """The model is a causal language model, so it can continue a text."""
        return self.peft == "CAUSAL_LM"


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "classification": Task("SEQ_CLS", ("text", "label"), labels=True),
        "causal-lm": Task("CAUSAL_LM", ("messages", "prompt", "completion", "text"), perplexity=True),
        "preference": Task("CAUSAL_LM", ("prompt", "chosen", "rejected"), shared=("beta",)),
    }
)


def _known(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"no such task{nearest(name, TASKS)}")
    return name


@dataclass(frozen=True, config=_STRICT)
class RowSettings:
    """The task of the rows, the columns to read, and the length at which a row is cut.

    Args:
        task: `classification` (columns `text` and `label`); `causal-lm` (the first that the rows have: `messages`;
            `prompt` and `completion`; `text`); or `preference`, DPO (`prompt`, `chosen` and `rejected`).
        text: column of the text.
        prompt: column of the prompt, which is not learned.
        completion: column of the text that is learned after a prompt.
        messages: column of a chat, a list of objects with `role` and `content`; the assistant's words are learned.
        label: column of the class.
        chosen: column of the answer that is preferred; for `preference`.
        rejected: column of the answer that is not; for `preference`.
        beta: how near preference training stays to its reference, arXiv 2305.18290, eq. 7; the larger, the nearer.
        max_length: most tokens of a row; what is longer is cut.
    """

    task: Annotated[str, AfterValidator(_known)] = "classification"
    text: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"
    label: str = "label"
    chosen: Annotated[str, AddedLater(before="chosen")] = "chosen"
    rejected: Annotated[str, AddedLater(before="rejected")] = "rejected"
    beta: Annotated[Positive, AddedLater(before=0.1)] = 0.1
    max_length: Count = 128
