"""`base.toml`: the base model of a deployment as its operator names it, written at a node and read by the server.

The server has neither PyTorch nor, as a rule, the model: the file tells it what nodes train, and its shapes are the
only ones that it allocates memory for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from common.adapters.adapter import Shapes
from common.atomic_files import write_file
from common.errors import ConfigError, ModelError
from common.huggingface.base_folder import resolve_base
from common.huggingface.fingerprint import fingerprint, tensor_shapes
from common.huggingface.fingerprint_parts import BASE, TOKENIZER, settings_parts
from common.huggingface.model_description import MAX_DIMENSION, MAX_MODULES, ModelDescription
from common.huggingface.new_head import HeadModule
from common.settings.reader import parse_settings, read_toml, to_tables
from common.settings.tasks import SINGLE, TASKS, Problem
from common.settings.types import _STRICT, Count, Names, Positive

Size = Annotated[int, Field(ge=1, le=MAX_DIMENSION)]
Hash = Annotated[str, Field(min_length=1, max_length=256)]
Word = Hash
_HEADER = """\
# What the nodes of a run train together. Written by `fedlora client --check NODE.toml --describe FILE` at a node;
# [base] file in the server's file names it. A node whose own base, rows or labels give another fingerprint is refused.

"""


@dataclass(frozen=True, config=_STRICT)
class TargetModule:
    """A module that is adapted.

    Args:
        shape: (d, k), outputs and inputs; (e, n) for an embedding of n words in e dimensions.
        kind: `new` is a module of a new head, `last` the last one of it; both are missing in the checkpoint.
        bias: a module of a new head has a bias.
    """

    shape: tuple[Size, Size]
    kind: Literal["linear", "embedding", "new", "last"] = "linear"
    bias: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class BaseFile:
    """The content of a `base.toml`.

    Args:
        name: of the base model, for people and for the exported adapter.
        fingerprint: that a node must have: of base model, tokenizer, targets and task.
        targets: as [lora] targets, by which the modules were chosen.
        task: of the rows, like `labels`, `max_length`, `beta`, `system`, `src_lang`, `tgt_lang` and `problem_type`; one
            class a row if that is not set.
        chat_template: SHA-256 of the text of that which nodes use in place of the tokenizer's own.
        modules: that are adapted, by name.
        base_hash: SHA-256 of the base model alone, by which a node that differs is told so; not in earlier files.
        tokenizer_hash: likewise of the tokenizer.
        head: `new` if the checkpoint's own classification head is replaced.
    """

    name: Annotated[str, Field(min_length=1, max_length=256)]
    fingerprint: Hash
    targets: str | Names
    task: str
    labels: tuple[str, ...] = ()
    max_length: Count
    beta: Positive | None = None
    chat_template: Hash | None = None
    system: Literal["fold"] | None = None
    src_lang: Word | None = None
    tgt_lang: Word | None = None
    problem_type: Problem | None = None
    modules: Annotated[dict[str, TargetModule], Field(min_length=1, max_length=MAX_MODULES)]
    base_hash: Hash | None = None
    tokenizer_hash: Hash | None = None
    head: Literal["new"] | None = None

    @model_validator(mode="after")
    def _is_model(self) -> "BaseFile":
        assert self.description  # Making it raises ValueError, which becomes an error that names the file.
        return self

    @property
    def description(self) -> ModelDescription:
        """What nodes announce."""
        kinds = {name: module.kind for name, module in self.modules.items()}
        head = [
            HeadModule(name, module.kind == "last", module.bias)
            for name, module in self.modules.items()
            if module.kind in ("new", "last")
        ]
        embeddings = tuple(name for name, kind in kinds.items() if kind == "embedding")
        shapes = {name: module.shape for name, module in self.modules.items()}
        parts, kind = self._parts(shapes), self.problem_type or SINGLE
        return ModelDescription(self.fingerprint, self.task, shapes, tuple(head), embeddings, parts, kind)

    def _parts(self, shapes: Shapes) -> dict[str, str]:
        hashes = {BASE: self.base_hash, TOKENIZER: self.tokenizer_hash}
        stated = {part: value for part, value in hashes.items() if value}
        return {**stated, **settings_parts(shapes, self.task, self.labels, self.max_length, self._shared())}

    def _shared(self) -> dict[str, Any]:
        """Return what else the fingerprint is made of."""
        keys = TASKS[self.task].shared if self.task in TASKS else ()
        shared = {key: value for key in keys if (value := getattr(self, key)) is not None}
        return shared | ({"head": self.head} if self.head else {})

    @classmethod
    def of(cls, model: ModelDescription, **rest: Any) -> Self:
        """Return the file of a model; `rest` are the other keys."""
        head = {module.name: module for module in model.head}
        modules = {name: _module(name, shape, head, model.embeddings) for name, shape in model.shapes.items()}
        rest |= {"base_hash": model.parts.get(BASE), "tokenizer_hash": model.parts.get(TOKENIZER)}
        return cls(fingerprint=model.fingerprint, task=model.task, modules=modules, **rest)

    def check_folder(self, path: str) -> None:
        """Check that the base model in this folder is the one described; its tensors are hashed, without PyTorch.

        Raises:
            ModelError: it is another one, or cannot be read.
        """
        folder, shapes = resolve_base(path), self.description.shapes
        found = fingerprint(folder, shapes, self.task, self.labels, self.max_length, **self._shared())
        if found != self.fingerprint:
            raise ModelError(
                f"[base] path = {path!r} has fingerprint {found:.12}, and [base] file says {self.fingerprint:.12}: it "
                "is another base model or tokenizer; describe the base again at a node, or set the right path"
            )
        if absent := [name for name in self._of_checkpoint() if not _has_matrix(folder, name, shapes[name])]:
            raise ModelError(
                f"[base] path = {path!r} has no matrix {absent[0]!r} of shape {shapes[absent[0]]} as [base] file says; "
                "describe the base again at a node"
            )

    def _of_checkpoint(self) -> list[str]:
        return [name for name, module in self.modules.items() if module.kind in ("linear", "embedding")]


def _module(name: str, shape: tuple[int, int], head: Mapping[str, HeadModule], embeddings: tuple[str, ...]) -> Any:
    if name in head:
        return TargetModule(shape, "last" if head[name].last else "new", head[name].bias)
    return TargetModule(shape, "embedding" if name in embeddings else "linear")


def _has_matrix(folder: Path, name: str, shape: tuple[int, int]) -> bool:
    """Return whether a checkpoint has the weight of a module; one side may have a prefix, as in `bert.encoder`."""
    weight = f"{name}.weight"
    return any(
        sorted(size) == sorted(shape) and (weight.endswith(key) or key.endswith(weight))
        for key, size in tensor_shapes(folder).items()
    )


def write_base_file(path: Path, file: BaseFile) -> None:
    """Write a new file.

    Raises:
        ConfigError: it exists, or cannot be written.
    """
    try:
        write_file(path, (_HEADER + tomli_w.dumps(to_tables(file))).encode(), exclusive=True)
    except FileExistsError:
        raise ConfigError(f"{path} already exists; give another path, or remove it") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; give a path in a folder that exists") from None


def read_base_file(path: Path) -> BaseFile:
    """Read the file.

    Raises:
        ConfigError: it is missing, or a key or value is wrong.
    """
    return parse_settings(BaseFile, read_toml(path), str(path))
