"""Texts that a run's model writes after many prompts, several at a time, greedily."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from client.data.tokens import prompt_ids
from client.finished.run import Trained
from client.finished.text import continue_texts, longest_answer
from client.model.lora import Lane, frozen_lane
from client.objectives.source_target import Side
from client.serving.decoder import Decoder
from client.serving.jobs import Ended, Event, Failed, Job, Piece
from client.serving.limits import Limits
from common.errors import ModelError
from common.settings.tasks import TASKS

_BATCH = 16
"""Texts that an encoder reads at a time."""


@torch.no_grad()
def write_texts(trained: Trained, prompts: Sequence[str]) -> list[str]:
    """Return what the model writes after each prompt: up to its end of text, or to the length of a training row.

    An encoder with a decoder reads the prompt, cut as a training row is.

    Raises:
        ModelError: the model cannot go on after a prompt.
    """
    if TASKS[trained.base.task].seq2seq:
        return _answer(trained, prompts)
    lane = frozen_lane(trained.adapter, trained.base.device)
    decoder = Decoder(trained.base, Limits())
    with _bar(len(prompts)) as ended:
        texts = [_Text(trained, lane, prompt, ended) for prompt in prompts]
        _run(decoder, deque(text.job for text in texts))
    if failed := next((text for text in texts if text.fault), None):
        raise ModelError(f"{trained.base.folder} cannot go on after {failed.prompt[:80]!r}: {failed.fault}")
    return ["".join(text.pieces) for text in texts]


def _answer(trained: Trained, prompts: Sequence[str]) -> list[str]:
    """Return what a decoder writes for each prompt, which its encoder reads."""
    base, longest, texts = trained.base, trained.node.data.max_length, list[str]()
    sources = [each.ids.tolist() for each in Side.of(base.tokenizer, written=False).examples(prompts, longest)]
    tokens = longest_answer(base, longest)
    with _bar(len(prompts)) as ended:
        for begin in range(0, len(sources), _BATCH):
            texts += (new := continue_texts(trained, trained.adapter, sources[begin : begin + _BATCH], tokens))
            for _ in new:
                ended()
    return texts


def _run(decoder: Decoder, waiting: deque[Job]) -> None:
    while waiting or decoder.jobs:
        new: list[Job] = []
        while waiting and decoder.has_room([*new, waiting[0]]):
            new.append(waiting.popleft())
        decoder.admit(new) if new else decoder.step()


class _Text:
    """A text that is being written."""

    def __init__(self, trained: Trained, lane: Lane, prompt: str, ended: Callable[[], None]) -> None:
        self.prompt, self.fault, self._ended = prompt, "", ended
        self.pieces: list[str] = []
        ids, node = prompt_ids(trained.base.tokenizer, prompt), trained.node
        longest = min(node.data.max_length, trained.base.positions or node.data.max_length)
        self.job = Job(ids, lane, max(1, longest - len(ids)), deliver=self._take)

    def _take(self, event: Event) -> None:
        if isinstance(event, Piece):
            self.pieces.append(event.text)
        elif isinstance(event, Failed):
            self.fault = event.reason
        if isinstance(event, Failed | Ended):
            self._ended()


@contextmanager
def _bar(count: int) -> Iterator[Callable[[], None]]:
    """Draw a bar on a terminal while the block runs; yield what is called as each text ends."""
    console = Console(stderr=True)
    columns = TextColumn("writing texts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task("", total=count)
        yield lambda: progress.advance(task)
