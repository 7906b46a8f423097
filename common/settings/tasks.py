"""Tasks, and the settings of their rows, without PyTorch; the training objective of each is in client/objectives."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, model_validator
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

    @property
    def seq2seq(self) -> bool:
        """The model reads a text with its encoder, and writes another one with its decoder."""
        return self.peft == "SEQ_2_SEQ_LM"

    @property
    def generates(self) -> bool:
        """The model writes text."""
        return self.causal or self.seq2seq


Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
"""What a row of a task with labels has, in Transformers' words: one label, a set of labels, or numbers."""
SINGLE: Final = "single_label_classification"
MULTI: Final = "multi_label_classification"
REGRESSION: Final = "regression"


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "classification": Task("SEQ_CLS", ("text", "label"), labels=True, shared=("problem_type",)),
        "causal-lm": Task(
            "CAUSAL_LM",
            ("messages", "prompt", "completion", "text"),
            perplexity=True,
            shared=("chat_template", "system"),
        ),
        "preference": Task("CAUSAL_LM", ("prompt", "chosen", "rejected"), shared=("beta", "chat_template", "system")),
        "seq2seq": Task("SEQ_2_SEQ_LM", ("prompt", "completion"), perplexity=True, shared=("src_lang", "tgt_lang")),
    }
)


def _known(name: str) -> str:
    if name not in TASKS:
        raise ValueError(f"no such task{nearest(name, TASKS)}")
    return name


def _encoding(name: str) -> str:
    try:
        "a".encode(name).decode(name)
    except (LookupError, ValueError):
        raise ValueError('no such encoding of text; use "utf-8", "utf-16", "latin-1" or "cp1252"') from None
    return name


@dataclass(frozen=True, config=_STRICT)
class RowSettings:
    """The task of the rows, the columns to read, and the length at which a row is cut.

    Args:
        task: `classification` (columns `text` and `label`); `causal-lm` (the first that the rows have: `messages`;
            `prompt` and `completion`; `text`; else a layout that is known by its columns, as Alpaca's or ShareGPT's);
            `preference`, DPO (`prompt`, `chosen` and `rejected`); or `seq2seq`, for a base with an encoder and a
            decoder, as T5 or BART (`prompt`, which is read, and `completion`, which is written; else such a layout).
        text: column of the text.
        prompt: column of the prompt, which is not learned.
        completion: column of the text that is learned after a prompt.
        messages: column of a chat, a list of objects with `role` and `content`; the assistant's words are learned.
        chat_template: file of a chat template in Jinja, in place of the tokenizer's own; all nodes need the same one.
            The files of a run have its text.
        system: `fold` puts a system's turn into the user's turn after it, for templates that take none, as Gemma's.
        label: column of the class, of the classes, or of the number.
        problem_type: what `label` has, for `classification`: `single_label_classification`, a class;
            `multi_label_classification`, a list of any number of classes, or 0 or 1 for each class; `regression`, a
            number, or a list of numbers; or `auto`, what the base model's own head was trained for, if that is kept
            and its `config.json` says it, and else a class.
        chosen: column of the answer that is preferred; for `preference`.
        rejected: column of the answer that is not; for `preference`.
        src_lang: language of what is read, as the tokenizer spells it; for `seq2seq`, if the tokenizer has languages.
        tgt_lang: likewise of what is written.
        beta: how near preference training stays to its reference, arXiv 2305.18290, eq. 7; the larger, the nearer.
        max_length: most tokens of a row, under `seq2seq` of what is read and of what is written; what is longer is cut.
        encoding: of text files, by its name in Python, as `latin-1`; a byte order mark in a file decides before it.
        skip_bad_rows: rows that cannot be used are left out, counted and listed by reason; else the file is refused.
    """

    task: Annotated[str, AfterValidator(_known)] = "classification"
    text: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"
    chat_template: Annotated[str | None, AddedLater(before=None)] = None
    system: Annotated[Literal["fold"] | None, AddedLater(before=None)] = None
    label: str = "label"
    problem_type: Annotated[Literal["auto"] | Problem, AddedLater(before=SINGLE, alike=("auto",))] = "auto"
    chosen: Annotated[str, AddedLater(before="chosen")] = "chosen"
    rejected: Annotated[str, AddedLater(before="rejected")] = "rejected"
    src_lang: Annotated[str | None, AddedLater(before=None)] = None
    tgt_lang: Annotated[str | None, AddedLater(before=None)] = None
    beta: Annotated[Positive, AddedLater(before=0.1)] = 0.1
    max_length: Count = 128
    encoding: Annotated[str, AfterValidator(_encoding), AddedLater(before="utf-8")] = "utf-8"
    skip_bad_rows: Annotated[bool, AddedLater(before=False)] = False

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        if not TASKS[self.task].labels and self.problem_type not in ("auto", SINGLE):
            raise ValueError(
                f"problem_type = {self.problem_type!r} is for rows with labels, and task = {self.task!r} has none; "
                "remove one of the two"
            )
        return self

    @property
    def has_classes(self) -> bool:
        """Each row has one class."""
        return TASKS[self.task].labels and problem_of(self) == SINGLE

    @property
    def has_numbers(self) -> bool:
        """Each row has numbers, and the labels are the names of the model's outputs."""
        return self.problem_type == REGRESSION


def problem_of(data: RowSettings) -> Problem:
    """Return what a row has, where that is settled; a class where it was never asked."""
    return SINGLE if data.problem_type == "auto" else data.problem_type


def shared_settings(data: RowSettings) -> dict[str, Any]:
    """Return the further settings of the task that all nodes share, by key, without those that are not set.

    One class a row is not stated, as in earlier releases. A chat template is there as the SHA-256 of its text.
    """
    shared = {key: value for key in TASKS[data.task].shared if (value := getattr(data, key)) is not None}
    if data.has_classes:
        shared.pop("problem_type", None)
    if data.chat_template is not None and "chat_template" in shared:
        shared["chat_template"] = hashlib.sha256(data.chat_template.encode()).hexdigest()
    return shared
