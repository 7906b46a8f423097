"""Settings as frozen dataclasses: the tables and keys of a recipe, of a node's file and of a server's file."""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from common.marks import OPERATIONAL

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError("write HOST:PORT, for example fed.example.org:8443")
    return text


def _address_if_any(text: str) -> str:
    return text and _address(text)


Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Address = Annotated[str, AfterValidator(_address)]
Task = Literal["classification", "causal-lm"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, config=_STRICT)
class Base:
    """[base] The frozen model: a local Hugging Face folder, or `package:NAME/FOLDER` inside an installed package.

    A recipe may also name a .gguf file in either place, or `tiny:KIND`, random weights.
    """

    path: str
    dtype: Dtype = "float32"
    device: str = "auto"


@dataclass(frozen=True, config=_STRICT)
class Data:
    """[data] Where rows come from (`corpus` or `path`) and which columns hold what."""

    corpus: str | None = None
    path: str | None = None
    task: Task = "classification"
    text: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"
    label: str = "label"
    max_length: Count = 128
    test_rows: Annotated[int, Field(ge=0)] = 500

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if (self.corpus is None) == (self.path is None):
            raise ValueError("set exactly one of [data] corpus and [data] path")
        return self


@dataclass(frozen=True, config=_STRICT)
class Clients:
    """[clients] How rows are dealt out, and each client's rank (`ranks` repeats if it is shorter than `count`)."""

    count: Count | None = None
    ranks: Annotated[tuple[Count, ...], Field(min_length=1)] = (8,)
    partition: Literal["iid", "dirichlet", "column"] = "dirichlet"
    beta: Positive = 0.5
    column: str | None = None
    min_rows: Count = 8

    @model_validator(mode="after")
    def _column_or_count(self) -> "Clients":
        if self.partition == "column" and self.column is None:
            raise ValueError('partition "column" needs [clients] column, the name of the column that names the owner')
        if self.partition != "column" and self.count is None:
            raise ValueError(f'partition "{self.partition}" needs [clients] count')
        return self


@dataclass(frozen=True, config=_STRICT)
class Lora:
    """[lora] `targets`: "query-value", "all-linear", a list of names, or one regular expression for whole names."""

    targets: str | Names = "query-value"
    alpha: Literal["rank"] | Positive = "rank"
    dropout: Share = 0.0

    def scaling(self, rank: int) -> float:
        """s = alpha / r; 1 for the default `alpha = "rank"`."""
        return 1.0 if isinstance(self.alpha, str) else self.alpha / rank


@dataclass(frozen=True, config=_STRICT)
class Steps:
    """[train] A client makes `steps` optimizer steps a round; the rate follows one schedule over all rounds."""

    steps: Count = 10
    batch: Count = 16
    lr: Positive = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 2
    clip: Annotated[float, Field(ge=0)] = 1.0
    accumulate: Count = 1
    checkpointing: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Train(Steps):
    """[train] of a recipe: how many rounds, and the steps in each."""

    rounds: Count


@dataclass(frozen=True, config=_STRICT)
class Rule:
    """[server] The rule of aggregation and its settings."""

    algorithm: str = "increments"
    mode: Literal["both", "b"] = "both"
    a: Literal["warm", "fresh", "gaussian"] = "warm"
    rank_global: Count | None = None
    rank_kept: Count | None = None
    weights: Literal["examples", "tokens", "uniform"] = "examples"


@dataclass(frozen=True, config=_STRICT)
class Server(Rule):
    """[server] of a recipe: the rule, and how many clients are sampled a round (all by default)."""

    cohort: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """A simulation: one file says all of it."""

    base: Base
    data: Data
    clients: Clients
    train: Train
    lora: Lora = Lora()
    server: Server = Server()
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Count = 1
    workers: Annotated[Count, OPERATIONAL] = 2


@dataclass(frozen=True, config=_STRICT)
class Policy:
    """[policy] What a server may ask of a node. A key that is not set allows anything.

    Args:
        base: fingerprint of the base model, tokenizer, targets and task that the node trains on.
        targets: modules that may be trained, by name or by the end of it: "q_proj", "layers.0.q_proj".
        max_rank: largest rank to train.
        max_steps: most optimizer steps in one round.
        max_rounds: most rounds of a run; also most trainings in the life of the node's process, since an abandoned
            round costs what another does.
        min_lr: lowest learning rate of a step, after warm-up and schedule are applied.
        max_lr: highest learning rate of a step.
        min_cohort: fewest nodes in a round, this one included. The server says how many there are.
        min_seconds: least time between the starts of two trainings.
        max_bytes: most memory for factors, their gradients and optimizer state.
    """

    base: str | None = None
    targets: Names | None = None
    max_rank: Count | None = None
    max_steps: Count | None = None
    max_rounds: Count | None = None
    min_lr: Positive | None = None
    max_lr: Positive | None = None
    min_cohort: Count | None = None
    min_seconds: Positive | None = None
    max_bytes: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Node:
    """A client's own file: its data, base, device and rank. Paths are relative to the file.

    For a deployment it also says where the `server` is (HOST:PORT), in which folder the node's `keys` are, whether the
    client is to `stay` for the next run when one has ended, and what a server may ask.
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


@dataclass(frozen=True, config=_STRICT)
class ServerFile:
    """A deployment's own file. Paths are relative to the file.

    Args:
        project: name of the project, as its keys have it.
        run: name of the run; another name is another run, under the same keys.
        rounds: rounds to train.
        folder: where the run is written; runs/RUN by default.
        listen: address and port for nodes.
        health: port of gRPC's health service on 127.0.0.1; 0 takes a free one.
        keys: folder with the project's keys.
        quorum: fewest updates that make a round.
        deadline: seconds that a node has for each reply.
        cohort: nodes that are sampled a round; all by default.
        seed: keys every random stream.
        lora: as in a recipe.
        train: as in a recipe, without `rounds`.
        server: as in a recipe, without `cohort`.
    """

    project: Name
    run: Name
    rounds: Count
    folder: Annotated[str, OPERATIONAL] = ""
    listen: Annotated[Address, OPERATIONAL] = "0.0.0.0:8443"
    health: Annotated[int, Field(ge=0, le=65535), OPERATIONAL] = 0
    keys: Annotated[str, OPERATIONAL] = "keys"
    quorum: Annotated[Count, OPERATIONAL] = 2
    deadline: Annotated[Positive, OPERATIONAL] = 3600.0
    cohort: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    lora: Lora = Lora()
    train: Steps = Steps()
    server: Rule = Rule()

    @model_validator(mode="after")
    def _enough(self) -> "ServerFile":
        if self.cohort is not None and self.cohort < self.quorum:
            raise ValueError(
                f"cohort = {self.cohort} is below quorum = {self.quorum}, so no round could count; raise cohort"
            )
        return self
