"""What a node gave to a run, kept so that as much can be trained alone: where it began, and what each request asked.

FOLDER/RUN/beginning        factors and settings of the first request to train
FOLDER/RUN/history.jsonl    of a request to train: phase, rates and rows; of one for a head in closed form, what it asks
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from client.memory.state_file import StateFile
from client.results.folder import NodeFolder
from common.adapters.adapter import Adapter, Factors, zeros
from common.adapters.codec import decode_adapter, encode_adapter
from common.adapters.joined import join_adapters, split_adapters
from common.errors import JournalError
from common.heads.requests import ASKS, CLASS_SUMS
from common.protocol.assignment import Assignment, Training
from common.protocol.messages import unpack_assignment
from common.protocol.payload import Payload


def told_facts(kind: str, asked: Payload) -> dict[str, Any]:
    """Return what the history keeps of a request that was answered."""
    if kind == "train":
        training = Training.from_values(asked.values)
        return {"phase": training.phase, "rates": list(training.learning_rates), "rows": training.rows}
    return {key: asked.values[key] for key in (ASKS, "gram") if key in asked.values}


@dataclass(frozen=True)
class Beginning:
    """Where a node's part in a run began.

    Args:
        assignment: what it was first asked to train; its `frozen` has every module.
        training: with which settings.
    """

    assignment: Assignment
    training: Training

    @classmethod
    def of(cls, asked: Payload) -> Self:
        """Return that of a first request to train; in a later round than 1 its update is of others, and is left out."""
        assignment = unpack_assignment(asked.values, asked.blob, asked.parts)
        training, start, nothing = Training.from_values(asked.values), assignment.start, zeros(assignment.start.shapes)
        frozen = Adapter({**nothing, **assignment.frozen})
        if training.round > 1:
            frozen, start = nothing, Adapter({name: Factors(f.a, np.zeros_like(f.b)) for name, f in start.items()})
        return cls(Assignment(frozen, start, assignment.trains, assignment.scaling), training)

    @property
    def is_of_base(self) -> bool:
        """The node was first asked in a later round, so that it does not know what the run began with."""
        return self.training.round > 1


def keep_beginning(folder: NodeFolder, asked: Payload) -> None:
    """Keep what the first request to train of a run asked, unless it is kept already.

    Raises:
        OSError: it cannot be written.
    """
    if (file := _file(folder)).path.exists():
        return
    begun = Beginning.of(asked)
    values = begun.training.to_values() | {"trains": begun.assignment.trains, "scaling": begun.assignment.scaling}
    factors = join_adapters(frozen=begun.assignment.frozen, start=begun.assignment.start)
    file.write({"settings": values}, encode_adapter(factors))


def read_beginning(folder: NodeFolder) -> Beginning:
    """Return where the node's part in the run began.

    Raises:
        JournalError: nothing was kept.
        CodecError, OSError, ValueError: it was changed or cut, or cannot be read.
    """
    if (found := _file(folder).read()) is None:
        raise JournalError(f"{folder.path} does not say where the run began: the node was not asked to train")
    values, parts = found[0]["settings"], split_adapters(decode_adapter(found[1]))
    assignment = Assignment(parts["frozen"], parts["start"], values["trains"], values["scaling"])
    return Beginning(assignment, Training.from_values(values))


def given_training(history: Sequence[Mapping[str, Any]], begun: Training, last: int) -> Training:
    """Return one training with a step for each batch that the node trained on, or computed a gradient of, in a run.

    Its steps have the mean number of rows. Of a round that was repeated the last request counts, and rounds after
    `last`, which the run went back before, do not.
    """
    asked = {(each["round"], each["phase"]): each for each in history if "rates" in each and each["round"] <= last}
    in_order = [asked[place] for place in sorted(asked)]
    rates = tuple(rate for each in in_order for rate in each["rates"])
    rows = max(1, round(sum(each["rows"] for each in in_order) / max(len(rates), 1)))
    passes = -(-rows // begun.batch)
    return replace(begun, learning_rates=rates, batch=-(-rows // passes), accumulate=passes, draw=0, begin=0)


def asked_gram(history: Sequence[Mapping[str, Any]]) -> bool | None:
    """Return whether the run's head in closed form needs the Gram matrix; None if the run has no such head."""
    return next((bool(each.get("gram")) for each in history if each.get(ASKS) == CLASS_SUMS), None)


def _file(folder: NodeFolder) -> StateFile:
    return StateFile(folder.path / "beginning", {"run": folder.run})
