"""A server's settings file."""

from typing import Annotated

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from common.settings.marks import OPERATIONAL
from common.settings.recipe import LoraSettings, Rule, StartSettings, Steps
from common.settings.types import _STRICT, Address, Count, Name, Positive


@dataclass(frozen=True, config=_STRICT)
class RunBase(StartSettings):
    """[base] The base model that nodes train, as the operator names it; fixed when the run begins.

    Args:
        file: a `base.toml`, written at a node by `fedlora client --check NODE.toml --describe base.toml`; required for
            a new run.
        path: folder of the base model, if the server has it: it is hashed and compared with `file`.
        name: of the base model in the exported adapter; that in `file` if not set.
        max_rank: largest rank of a node, on which the rank of the global update depends; the largest that the roster
            allows when the run begins, if not set. A node of a higher rank trains at this one. It cannot change later.
    """

    file: Annotated[str | None, OPERATIONAL] = None
    path: Annotated[str | None, OPERATIONAL] = None
    name: Annotated[str | None, OPERATIONAL] = None
    max_rank: Annotated[Count | None, OPERATIONAL] = None


@dataclass(frozen=True, config=_STRICT)
class ServerFile:
    """A server's settings file for a deployment. Paths are relative to the file.

    Args:
        project: name of the project, the same as in its keys.
        run: name of the run; another name is another run, under the same keys.
        rounds: rounds to train.
        folder: folder that the run is written to; `runs/RUN` if not set.
        listen: address and port that nodes connect to.
        health: port of gRPC's health service on 127.0.0.1; 0 takes a free one.
        metrics: port of metrics for Prometheus on 127.0.0.1; 0 takes a free one; none if not set.
        keys: folder of the project's keys.
        quorum: fewest updates that complete a round; the run begins when this many nodes are ready.
        deadline: seconds in which a node must send each reply; the reading of base model and rows does not count.
        grace: seconds that a node may neither answer nor report a step, once `quorum` others have answered; twice the
            slowest answer of earlier rounds, and at least 60, if not set. There is none in round 1.
        patience: seconds to wait where fewer than `quorum` nodes are ready; for ever if not set.
        keep_days: days after the run's end for which the server stays up for nodes that were away then, to send them
            the adapter; until every node of the roster has it.
        cohort: nodes that are sampled a round, at least `quorum`; all if not set.
        seed: keys every random stream.
        base: the base model of the run.
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
    metrics: Annotated[Annotated[int, Field(ge=0, le=65535)] | None, OPERATIONAL] = None
    keys: Annotated[str, OPERATIONAL] = "keys"
    quorum: Annotated[Count, OPERATIONAL] = 2
    deadline: Annotated[Positive, OPERATIONAL] = 3600.0
    grace: Annotated[Positive | None, OPERATIONAL] = None
    patience: Annotated[Positive | None, OPERATIONAL] = None
    keep_days: Annotated[float, Field(ge=0), OPERATIONAL] = 0.0
    cohort: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    base: RunBase = RunBase()
    lora: LoraSettings = LoraSettings()
    train: Steps = Steps()
    server: Rule = Rule()

    @model_validator(mode="after")
    def _enough(self) -> "ServerFile":
        if self.cohort is not None and self.cohort < self.quorum:
            raise ValueError(
                f"cohort = {self.cohort} is below quorum = {self.quorum}, so no round could count; raise cohort"
            )
        return self
