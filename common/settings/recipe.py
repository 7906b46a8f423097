"""Settings as frozen dataclasses: the tables and keys of a recipe, of a node's file and of a server's file."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from common.settings.marks import OPERATIONAL, AddedLater
from common.settings.types import _STRICT, Count, Dtype, Names, Positive, Share, Task


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
    """[data] The source of the rows (`corpus` or `path`) and the columns to read."""

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
    """[clients] The partition of the rows, and each client's rank (`ranks` repeats if shorter than `count`)."""

    count: Count | None = None
    ranks: Annotated[tuple[Count, ...], Field(min_length=1)] = (8,)
    partition: str = "dirichlet"
    beta: Positive = 0.5
    column: str | None = None
    min_rows: Count = 8


@dataclass(frozen=True, config=_STRICT)
class LoraSettings:
    """[lora] `targets`: "query-value", "all-linear", a list of names, or one regular expression for whole names."""

    targets: str | Names = "query-value"
    alpha: Literal["rank"] | Positive = "rank"
    dropout: Share = 0.0

    def scaling(self, rank: int) -> float:
        """Return s = alpha / r; 1 for the default `alpha = "rank"`."""
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
    """[train] of a recipe: the number of rounds, and the steps in each."""

    rounds: Count


@dataclass(frozen=True, config=_STRICT)
class Rule:
    """[server] The rule of aggregation and its settings.

    Args:
        weights: the weighting rule: "examples", "tokens", "uniform", or "norm" of the updates.
        max_share: largest share of one client in a sum, in (0, 1]; by default none for a rule that counts, and 2 / K of
            K updates for one that reads the factors (`hetlora`'s, "norm").
        proximal: mu of FedProx's term (mu / 2) ||w - w_0||^2 in every client's loss; 0 for none.
        codec: the form of factors on the way to a node: "plain", or "by-hash", which sends none that the node holds.
    """

    algorithm: str = "increments"
    mode: Literal["both", "b"] = "both"
    a: Literal["warm", "fresh", "gaussian"] = "warm"
    rank_global: Count | None = None
    rank_kept: Count | None = None
    weights: str = "examples"
    max_share: Annotated[Annotated[float, Field(gt=0, le=1)] | None, AddedLater(before=None)] = None
    proximal: Annotated[float, Field(ge=0), AddedLater(before=0.0)] = 0.0
    codec: Annotated[str, OPERATIONAL] = "by-hash"


@dataclass(frozen=True, config=_STRICT)
class Server(Rule):
    """[server] of a recipe: the rule, and the number of clients sampled a round (all by default)."""

    cohort: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """A simulation, described in full by one file."""

    base: Base
    data: Data
    clients: Clients
    train: Train
    lora: LoraSettings = LoraSettings()
    server: Server = Server()
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Count = 1
    workers: Annotated[Count, OPERATIONAL] = 2
