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
from common.errors import JournalError


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
            return Outcome(**values, update=decode_adapter(update.read_bytes()) if update.exists() else Adapter())
        except (ValueError, TypeError) as error:
            raise JournalError(
                f"{file} is not the outcome of a trial ({error}); remove it, and it runs again"
            ) from None

    def add(self, key: str, outcome: Outcome) -> None:
        """Write an outcome, its update first."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file, update = self._files(key)
        if outcome.update:
            write_file(update, encode_adapter(outcome.update.astype("f4")))
        values = {name: value for name, value in vars(outcome).items() if name != "update"}
        write_file(file, json.dumps(values).encode())

    def _files(self, key: str) -> tuple[Path, Path]:
        return self._folder / f"{key}.json", self._folder / f"{key}.update"


def key_of(name: str, words: Iterable[object]) -> str:
    """Return a file's name for a trial of this name, with a hash of all that it depends on."""
    digest = hashlib.sha256(json.dumps([repr(word) for word in words]).encode()).hexdigest()
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{digest[:12]}"


def mean_of(outcomes: Iterable[Outcome]) -> float:
    """Return the mean accuracy."""
    return float(np.mean([each.accuracy for each in outcomes]))
