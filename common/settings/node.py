"""A node's settings file, with its owner's policy for the requests of a server."""

from typing import Annotated

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from common.settings.types import _STRICT, Count, Dtype, Name, Names, Positive, Task, _address_if_any


@dataclass(frozen=True, config=_STRICT)
class Policy:
    """[policy] Limits on the requests of a server. A key that is not set allows anything.

    Args:
        base: fingerprint of the base model, tokenizer, targets and task that the node trains on.
        targets: modules that may be trained, by name or by the end of it: "q_proj", "layers.0.q_proj".
        max_rank: largest rank to train.
        max_steps: most optimizer steps in one round.
        max_rounds: most rounds of a run; also most trainings in the life of the node's process, since an abandoned
            round costs as much as any other, and so does each phase of one.
        max_phases: most phases (exchanges) of one round.
        terms: names of the terms that may be added to the gradient; an empty list allows none.
        min_lr: lowest learning rate of a step, after warm-up and schedule are applied.
        max_lr: highest learning rate of a step.
        min_cohort: fewest nodes in a round, this one included. The number is what the server states.
        min_seconds: least time between the starts of two trainings.
        max_bytes: most memory for factors, their gradients and optimizer state.
    """

    base: str | None = None
    targets: Names | None = None
    max_rank: Count | None = None
    max_steps: Count | None = None
    max_rounds: Count | None = None
    max_phases: Count | None = None
    terms: tuple[str, ...] | None = None
    min_lr: Positive | None = None
    max_lr: Positive | None = None
    min_cohort: Count | None = None
    min_seconds: Positive | None = None
    max_bytes: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Node:
    """A client's settings file: its data, base, device and rank. Paths are relative to the file.

    For a deployment it also has the address of the `server` (HOST:PORT), the folder of the node's `keys`, whether the
    client is to `stay` for the next run when one has ended, and the `policy` for the requests of a server.
    """

    name: Name
    rank: Count
    base: str
    data: str
    task: Task = "classification"
    labels: tuple[str, ...] = ()
    text: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"
    label: str = "label"
    max_length: Count = 128
    dtype: Dtype = "float32"
    device: str = "auto"
    threads: Count | None = None
    server: Annotated[str, AfterValidator(_address_if_any)] = ""
    keys: str = ""
    stay: bool = False
    policy: Policy = Policy()
