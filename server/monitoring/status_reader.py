"""Reader of `status.json`: whatever is in the file, what it returns is bounded, typed and safe to print."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from common.errors import ConfigError, printable
from common.first_fault import first_fault
from common.plain_files import SETTINGS, read_plain
from server.monitoring.status_file import FILE, REFUSALS

_CONFIG = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)
_NODES = 2**15

Text = Annotated[str, Field(max_length=256), AfterValidator(printable)]
Number = Annotated[int, Field(ge=0, le=2**63)]


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class NodeStatus:
    """A node's row; what is not known is None."""

    name: Text
    connected: bool
    last_seen: AwareDatetime | None
    bytes_up: Number
    bytes_down: Number
    rank: Number | None = None
    status: Text | None = None
    reason: Text | None = None
    state: Text | None = None
    same_as: Text | None = None
    clip: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Refusal:
    """How often a node was refused for a reason, and in which round last; None if it was when it called."""

    name: Text
    reason: Text
    count: Number
    round: Number | None


@dataclass(frozen=True, kw_only=True, config=_CONFIG)
class Status:
    """The state of a server, as of `updated`."""

    round: Number
    rounds: Number
    phase: Text
    done: Number
    of: Number
    listen: Text
    health: Text
    started: AwareDatetime
    updated: AwareDatetime
    nodes: Annotated[tuple[NodeStatus, ...], Field(max_length=_NODES)]
    refusals: Annotated[tuple[Refusal, ...], Field(max_length=2 * REFUSALS)]


def read_status(folder: Path) -> Status:
    """Read the status of the run in a folder.

    Raises:
        ConfigError: the file does not exist, or is not a status file; names the key.
    """
    file = folder / FILE
    try:
        return parse_status(read_plain(file, SETTINGS), file)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; start the server first") from None


def parse_status(content: bytes, file: Path) -> Status:
    """Parse the content of a status file, which errors name.

    Raises:
        ConfigError: it is not that of a status file; names the key.
    """
    try:
        return TypeAdapter(Status).validate_json(content)
    except ValidationError as error:
        key, fault = first_fault(error)
    what = "valid JSON" if fault.startswith("Invalid JSON") else "a status file"
    raise ConfigError(f"{file} is not {what}: {f'{key}: ' if key else ''}{fault}; start the server again to rewrite it")
