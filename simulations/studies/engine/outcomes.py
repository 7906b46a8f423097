"""The outcome of each trial: a file of JSON, and its update beside it, so that a study goes on where it was stopped."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter, encode_adapter
from common.atomic_files import write_file
from common.errors import CodecError, JournalError

HASH = "update_sha256"
"""Key of the hash of a trial's update, where it is kept."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Args:
        arm: its name.
        rate: learning rate.
        seed: of every random stream.
        parameters: trained by the method, without a new head.
        right: a bit a test prediction.
        loss: mean over the test predictions, in nats.
        valid_right: a bit a validation prediction.
        valid_loss: mean over the validation predictions, in nats.
        training_loss: mean over the steps, in nats; None of a federation.
        seconds: of the training.
        update: of each target, where the arm keeps it; a file of its own.
    """

    arm: str
    rate: float
    seed: int
    parameters: int
    right: str
    loss: float
    valid_right: str
    valid_loss: float
    training_loss: float | None
    seconds: float
    update: Adapter = field(default_factory=Adapter, compare=False)

    @property
    def accuracy(self) -> float:
        """Return the share of right test predictions."""
        return self.right.count("1") / len(self.right)

    @property
    def merit(self) -> tuple[float, float]:
        """Return what a rate is chosen by: validation accuracy, then loss."""
        return self.valid_right.count("1") / len(self.valid_right), -self.valid_loss


class OutcomeFolder:
    """The outcomes of a study's trials, by key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Outcome | None:
        """Return the outcome of a trial; None if it has not ended.

        Raises:
            JournalError: its file is damaged.
        """
        file, update = self._files(key)
        if not file.exists():
            return None
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            digest = values.pop(HASH, None)
            outcome = Outcome(**values, update=_read_update(update, digest))
            _check(outcome)
        except (ValueError, TypeError, AttributeError, OSError, CodecError) as error:
            raise JournalError(
                f"{file} is not the outcome of a trial ({error}); remove it, and it runs again"
            ) from None
        return outcome

    def add(self, key: str, outcome: Outcome) -> None:
        """Write an outcome, its update first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file, update = self._files(key)
        values = {name: value for name, value in vars(outcome).items() if name != "update"}
        if outcome.update:
            write_file(update, buffer := encode_adapter(outcome.update.astype("f4")))
            values[HASH] = hashlib.sha256(buffer).hexdigest()
        write_file(file, json.dumps(values).encode())

    def _files(self, key: str) -> tuple[Path, Path]:
        return self._folder / f"{key}.json", self._folder / f"{key}.update"


def _read_update(file: Path, digest: str | None) -> Adapter:
    """Return the update of this hash; an empty one of an outcome that has none."""
    if digest is None:
        return Adapter()
    if hashlib.sha256(buffer := file.read_bytes()).hexdigest() != digest:
        raise ValueError(f"{file.name} has another hash than was written")
    return decode_adapter(buffer)


def _check(outcome: Outcome) -> None:
    """Raise ValueError if a value is none that a trial comes to."""
    for bits in (outcome.right, outcome.valid_right):
        if not isinstance(bits, str) or not re.fullmatch("[01]+", bits):
            raise ValueError(f"{bits!r:.40} is no bits of predictions")
    for number in (outcome.rate, outcome.seed, outcome.parameters, outcome.loss, outcome.valid_loss, outcome.seconds):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"{number!r:.40} is no number")


def key_of(name: str, words: Iterable[object]) -> str:
    """Return a file's name for a trial of this name, with a hash of all that it depends on."""
    digest = hashlib.sha256(json.dumps([repr(word) for word in words]).encode()).hexdigest()
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{digest[:12]}"


def mean_of(outcomes: Iterable[Outcome]) -> float:
    """Return the mean accuracy."""
    return float(np.mean([each.accuracy for each in outcomes]))
