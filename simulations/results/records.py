"""The record of each trial: a line of JSON in one file, so that an interrupted comparison goes on where it was."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import ConfigError, JournalError
from simulations.results.tasks import Key


@dataclass(frozen=True)
class Record:
    """The result of a trial.

    Args:
        method: its row of the table.
        steps: batches of a client from one exchange to the next.
        rate: learning rate.
        seed: of every random stream.
        settings: hash of all settings.
        exchanges: of the trial.
        right: a bit a test row.
        loss: mean of the test rows, in nats.
        valid_right: a bit a validation row.
        valid_loss: mean of the validation rows, in nats.
        down: bytes of factors to all clients.
        up: bytes of factors from all clients.
        rows: read by all clients, with repetition.
        seconds: of the training.
    """

    method: str
    steps: int
    rate: float
    seed: int
    settings: str
    exchanges: int
    right: str
    loss: float
    valid_right: str
    valid_loss: float
    down: int
    up: int
    rows: int
    seconds: float

    @property
    def key(self) -> Key:
        """Return what names the trial."""
        return self.method, self.steps, self.rate, self.seed, self.settings

    @property
    def accuracy(self) -> float:
        """Return the share of right test rows."""
        return _share(self.right)

    @property
    def valid_accuracy(self) -> float:
        """Return the share of right validation rows."""
        return _share(self.valid_right)


class Records:
    """The records of a task, in one file."""

    def __init__(self, file: Path) -> None:
        """Read what there is; a last line that was cut off is as if it had not been written.

        Raises:
            JournalError: a line is not a record.
        """
        self._file, self._found = file, dict[Key, Record]()
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole, encoding="utf-8")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = Record(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise JournalError(f"{file}, line {number} is not a record ({error}); remove the line") from None
            self._found[record.key] = record

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def __getitem__(self, key: Key) -> Record:
        return self._found[key]

    def get(self, key: Key) -> Record | None:
        """Return the record of a trial, or None."""
        return self._found.get(key)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._found.values())

    def add(self, record: Record) -> None:
        """Append a record."""
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(record)) + "\n")
        self._found[record.key] = record


def _share(bits: str) -> float:
    return bits.count("1") / len(bits)


def open_folder(folder: Path) -> Path:
    """Make the folder of the records, if it is not there, and return it.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {folder}: {error.strerror}; set another --folder") from None
    return folder
