"""A node and its settings file, with its owner's policy for the requests of a server."""

from typing import Annotated, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from common.settings.marks import AddedLater
from common.settings.reader import values_of
from common.settings.recipe import Base
from common.settings.tasks import RowSettings
from common.settings.types import _STRICT, AddressIfAny, Count, Dtype, Head, Name, Names, Positive


@dataclass(frozen=True, config=_STRICT)
class Policy:
    """[policy] Limits on the requests of a server. A key that is not set allows anything, but for `gradients` and
    `class_sums`.

    Args:
        base: fingerprint of the base model, tokenizer, targets and task that the node trains on.
        targets: modules that may be trained, by name or by the end of it: "q_proj", "layers.0.q_proj".
        max_rank: largest rank to train.
        max_steps: most optimizer steps in one round.
        max_rounds: most rounds of a run; also, times `max_phases`, most trainings in the life of the node's process,
            since an abandoned round costs as much as any other.
        max_phases: most phases of one round, exchanges with the server; `fedlin` has 2.
        terms: names of what a server may ask beyond plain steps: the terms `proximal` and `control-variate`, and
            `gradient`, a gradient in place of an update; an empty list allows none.
        min_lr: lowest learning rate of a step, after warm-up and schedule are applied.
        max_lr: highest learning rate of a step.
        min_cohort: fewest nodes in a round, this one included. The number is what the server states.
        min_seconds: least time between the starts of two trainings, in seconds.
        max_bytes: most memory for factors, their gradients and optimizer state, in bytes.
        gradients: whether a gradient may leave the node, as `fedsgd` and `fedlin` need: a gradient of few rows tells
            more of them than an update of many steps.
        min_examples: fewest different rows behind a reply.
        class_sums: whether sums of features by class may leave the node, and for `lda` their Gram matrix, as a
            `[lora] head` in closed form needs: the sum of a class of few rows is nearly these rows.
        min_class_rows: fewest rows of a class in these sums; classes with fewer are left out, and the rows counted.
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
    gradients: bool = False
    min_examples: Count | None = None
    class_sums: bool = False
    min_class_rows: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=_STRICT)
class NodeData(RowSettings):
    """A node's own rows: their file, their settings, and the labels in an order that all nodes share."""

    path: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Participant:
    """The part of a node that is neither base nor data.

    Args:
        name: name of the node, the same as in its keys.
        rank: rank of the factors that the node trains.
        threads: threads of PyTorch, which chooses if this is not set.
        server: address of the project's server; for a deployment.
        keys: folder of the node's keys and invite; for a deployment.
        stay: when a run has ended, wait for the next one.
        save: keep the adapter of each run, with receipts and losses, in a folder of its own.
        folder: that contains a folder of each run, by its name; `runs/NAME` beside the file if not set.
        policy: limits on the requests of a server.
    """

    name: Name
    rank: Count
    threads: Count | None = None
    server: AddressIfAny = ""
    keys: str = ""
    stay: bool = False
    save: bool = True
    folder: str = ""
    policy: Policy = Policy()


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Node(Participant):
    """A node: the base that it trains on, its data and its rank."""

    base: Base
    data: NodeData


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class NodeFile(RowSettings, Participant):
    """A node's settings file: its data, base, device and rank. Paths are relative to the file.

    Args:
        base: folder of the base model in Hugging Face's format, with safetensors, or `package:NAME/FOLDER` in an
            installed package; never written.
        data: the node's rows, which never leave the machine: a file that ends in `.jsonl`, `.ndjson`, `.json`, `.csv`,
            `.tsv`, `.parquet` or `.arrow`, those of text also packed, in `.gz`, `.bz2`, `.xz` or `.zst`; or a folder of
            such files, or FOLDER/SPLIT.
        labels: all classes, in one order on all nodes; for a task with labels. If the base model's own head has these
            classes, in its order, whatever this one.
        dtype: type of the base model's numbers in memory; `auto` is that of its checkpoint, and float32 on a device
            without units for it. `nf4` and `int8` hold linear layers in 4 or 8 bits, and need the extra `quantised`.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:NUMBER`, or `mps`, an Apple GPU.
        head: what becomes of a classification head that the base model has: `keep`, with its outputs in their order
            where its classes are `labels`; `new`, replaced by a new one; or `listed`, with its outputs taken for
            `labels` in the order given, whatever they are called.
    """

    base: str
    data: str
    labels: tuple[str, ...] = ()
    dtype: Dtype = "float32"
    device: str = "auto"
    head: Annotated[Head, AddedLater(before="listed", alike=("keep",))] = "keep"

    @classmethod
    def from_node(cls, node: Node) -> Self:
        """Return the file of this node."""
        base, data = node.base, node.data
        keys = values_of(Participant, node) | values_of(RowSettings, data)
        own = {key: getattr(base, key) for key in ("dtype", "device", "head")}
        return cls(base=base.path, data=data.path, labels=data.labels, **own, **keys)

    def to_node(self) -> Node:
        """Undo `from_node`."""
        data = NodeData(path=self.data, labels=self.labels, **values_of(RowSettings, self))
        return Node(base=Base(self.base, self.dtype, self.device, self.head), data=data, **values_of(Participant, self))
