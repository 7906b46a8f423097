"""A server's settings file."""

from typing import Annotated

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from common.settings.marks import OPERATIONAL
from common.settings.recipe import LoraSettings, Rule, Steps
from common.settings.types import _STRICT, Address, Count, Name, Positive


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
        keys: folder of the project's keys.
        quorum: fewest updates that complete a round; the run begins when this many nodes are connected.
        deadline: seconds in which a node must send each reply.
        cohort: nodes that are sampled a round, at least `quorum`; all if not set.
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
