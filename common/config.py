"""Settings as frozen dataclasses, checked once at the edge; an error names the key, the value and the remedy."""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from common.errors import ConfigError, nearest

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
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
class Train:
    """[train] A client makes `steps` optimizer steps a round; the rate follows one schedule over all rounds."""

    rounds: Count
    steps: Count = 10
    batch: Count = 16
    lr: Positive = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 2
    clip: Annotated[float, Field(ge=0)] = 1.0
    accumulate: Count = 1
    checkpointing: bool = False


@dataclass(frozen=True, config=_STRICT)
class Server:
    """[server] The rule of aggregation and its settings; `cohort` clients are sampled a round (all by default)."""

    algorithm: str = "increments"
    mode: Literal["both", "b"] = "both"
    a: Literal["warm", "fresh", "gaussian"] = "warm"
    rank_global: Count | None = None
    rank_kept: Count | None = None
    weights: Literal["examples", "tokens", "uniform"] = "examples"
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
    workers: Count = 2


@dataclass(frozen=True, config=_STRICT)
class Node:
    """A client's own file: its data, base, device and rank. Paths are relative to the file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
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


Settings = TypeVar("Settings")


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables.

    Raises:
        ConfigError: it is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}; mend that line") from None


def override(tables: Mapping[str, Any], assignments: list[str]) -> dict[str, Any]:
    """The tables with each `KEY.KEY=VALUE` applied; VALUE is read as TOML, else taken as a plain word.

    Raises:
        ConfigError: an assignment has no `=`, or a key on its way is not a table.
    """
    result: dict[str, Any] = json.loads(json.dumps(tables, default=str))
    for assignment in assignments:
        dotted, equals, value = assignment.partition("=")
        if not equals or not dotted.strip():
            raise ConfigError(f"--set {assignment!r} has no key=value; write for example --set train.rounds=3")
        *tables_on_way, key = dotted.strip().split(".")
        table = result
        for name in tables_on_way:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {assignment!r}: {name} is a value, not a table")
        table[key] = _toml_value(value.strip())
    return result


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse(kind: type[Settings], tables: Mapping[str, Any], source: str) -> Settings:
    """The tables as frozen settings of this kind.

    Raises:
        ConfigError: every wrong key and value, one line each.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        lines = [_explain(kind, details) for details in error.errors()]
        raise ConfigError("\n".join(f"{source}: {line}" for line in dict.fromkeys(lines))) from None


def _explain(kind: type, details: ErrorDetails) -> str:
    path = [part for part in details["loc"] if isinstance(part, str)]
    if details["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key {_dotted(path)}{nearest(path[-1], _known(kind, path[:-1]))}"
    if details["type"] in ("missing", "missing_argument"):
        return f"{_dotted(path)} is missing; add it"
    reason = details["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    if isinstance(details["input"], dict) or not path:
        return f"{_dotted(path)}: {reason}" if path else reason
    return f"{_dotted(_keys(kind, path))} = {details['input']!r}: {reason}"


def _dotted(path: list[str]) -> str:
    return f"[{'.'.join(path[:-1])}] {path[-1]}" if path[:-1] else path[-1]


def _keys(kind: Any, path: list[str]) -> list[str]:
    """The part of an error's location that is keys of the file, without pydantic's names of union members."""
    keys: list[str] = []
    for part in path:
        if part not in _known(kind, keys):
            break
        keys.append(part)
    return keys or path[:1]


def _known(kind: Any, path: list[str]) -> list[str]:
    for part in path:
        kind = (
            {field.name: field.type for field in dataclasses.fields(kind)}.get(part)
            if dataclasses.is_dataclass(kind)
            else None
        )
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def to_tables(settings: Any) -> dict[str, Any]:
    """Settings as plain tables that TOML can hold: unset keys left out, tuples as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if item is not None}
        return [plain(item) for item in value] if isinstance(value, tuple | list) else value

    return plain(asdict(settings))  # type: ignore[no-any-return]


def config_hash(recipe: Recipe) -> str:
    """SHA-256 of the resolved recipe; `workers` is left out, since it changes no bit of the result."""
    tables = to_tables(recipe)
    tables.pop("workers")
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()
