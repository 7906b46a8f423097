"""Continuation of texts: requests join the batch at its next token, and leave it at their end."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from client.model.base_model import BaseModel
from client.serving.cached_rows import CachedRows, LaneModel, join, select
from client.serving.jobs import Ended, Failed, Job, Piece
from client.serving.limits import Limits
from client.serving.sampling import Sampler, choose_each
from client.serving.writer import Writer


@dataclass(eq=False)
class Text:
    """A text that is being continued: its last token is not in the batch's keys and values yet."""

    job: Job
    sampler: Sampler
    writer: Writer
    last: int = 0
    written: int = 0
    ended: bool = False


class Decoder:
    """The texts of one batch; for one thread."""

    def __init__(self, base: BaseModel, limits: Limits) -> None:
        """Attach to the base.

        Raises:
            ModelError: the model keeps a state that is not keys and values.
        """
        self._model, self._limits, self._ends = LaneModel(base), limits, ends_of(base)
        self._model.check()
        self._texts: list[Text] = []
        self._rows: CachedRows | None = None

    @property
    def jobs(self) -> list[Job]:
        """Jobs in the batch."""
        return [text.job for text in self._texts]

    def has_room(self, jobs: Sequence[Job]) -> bool:
        """Return whether these jobs fit into the batch; into an empty one, a single job always does."""
        together = [*self.jobs, *jobs]
        tokens = len(together) * max(job.longest for job in together)
        return len(together) == 1 or (len(together) <= self._limits.rows and tokens <= self._limits.tokens)

    def admit(self, jobs: Sequence[Job]) -> None:
        """Read the prompts of these jobs, write the first token of each, and put them into the batch."""
        jobs = sorted(jobs, key=lambda job: id(job.lane))
        tokenizer = self._model.base.tokenizer
        texts = [Text(job, Sampler(job.sampling), Writer(tokenizer, job.stops)) for job in jobs]
        rows, logits = self._model.begin([job.ids for job in jobs], [job.lane for job in jobs])
        self._write(texts, logits)
        self._rows = join(self._rows, rows) if self._rows else rows
        self._texts += texts
        self._settle()

    def step(self) -> None:
        """Write a token of each text in the batch."""
        self._settle()
        if self._rows:
            self._rows, logits = self._model.extend(self._rows, [text.last for text in self._texts])
            self._write(self._texts, logits)
            self._settle()

    def clear(self) -> None:
        """Forget all texts."""
        self._texts, self._rows = [], None

    def _write(self, texts: Sequence[Text], logits: Tensor) -> None:
        for text, token in zip(texts, choose_each(logits, [text.sampler for text in texts]), strict=True):
            if token is None:
                text.ended = True
                text.job.deliver(Failed("the model's logits are not finite under this adapter"))
            else:
                write_token(text, token, self._ends)

    def _settle(self) -> None:
        """Drop the texts that have ended or that nobody waits for, and put those of one lane side by side."""
        places = [n for n, text in enumerate(self._texts) if not (text.ended or text.job.cancelled)]
        places.sort(key=lambda place: id(self._texts[place].job.lane))
        if self._rows and places != list(range(len(self._texts))):
            self._rows = select(self._rows, places) if places else None
            self._texts = [self._texts[place] for place in places]


def write_token(text: Text, token: int, ends: frozenset[int]) -> None:
    """Add a token to a text, deliver what is certain of it, and its end."""
    text.last, text.written = token, text.written + 1
    piece = "" if token in ends else text.writer.push(token)
    stopped = token in ends or text.writer.stopped
    text.ended = stopped or text.written == text.job.tokens
    if text.ended:
        piece += text.writer.finish()
    text.job.deliver(Piece(piece, text.written))
    if text.ended:
        text.job.deliver(Ended("stop" if stopped or text.writer.stopped else "length"))


def ends_of(base: BaseModel) -> frozenset[int]:
    """Return the tokens that end a text: those of the model's generation settings, and the tokenizer's."""
    configured = getattr(base.model.generation_config, "eos_token_id", None)
    tokenizer: PreTrainedTokenizerBase = base.tokenizer
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(each for each in (*several, tokenizer.eos_token_id) if each is not None)
