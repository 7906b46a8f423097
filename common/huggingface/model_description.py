"""What the nodes of a run train together: a fingerprint, the task, and the target modules with their shapes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, get_args

from common.adapters.adapter import Shapes
from common.huggingface.fingerprint_parts import MAX_PARTS, parts_from_values, parts_to_values
from common.huggingface.new_head import HeadModule
from common.settings.tasks import SINGLE, TASKS, Problem

MAX_DIMENSION = 2**22
"""Largest number of rows or columns of a module; the largest vocabularies have a quarter of it."""
MAX_MODULES = 2**14
"""Most target modules."""
MAX_TEXT = 256
"""Most characters of a module's name or of a fingerprint."""


@dataclass(frozen=True)
class ModelDescription:
    """The part of a node's base that is the same for all nodes of a run.

    Args:
        fingerprint: of base model, tokenizer, targets and task.
        task: what the rows are for.
        shapes: (d, k) of the target modules.
        head: target modules that the base checkpoint lacks.
        embeddings: target modules that are embeddings, which PEFT stores in its own way.
        parts: what the fingerprint is made of, for people; none from an earlier release.
        problem_type: of a task with labels, what a row has.

    Raises:
        ValueError: a part is not of a model's size, or the task or what a row has is unknown.
    """

    fingerprint: str
    task: str
    shapes: Shapes
    head: tuple[HeadModule, ...] = ()
    embeddings: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict, compare=False)
    problem_type: str = SINGLE

    def __post_init__(self) -> None:
        # In one order, so that equal models are equal whoever lists them.
        object.__setattr__(self, "head", tuple(sorted(self.head, key=lambda module: (module.last, module.name))))
        object.__setattr__(self, "embeddings", tuple(sorted(self.embeddings)))
        if not 0 < len(self.shapes) <= MAX_MODULES:
            raise ValueError(f"{len(self.shapes)} target modules, and there may be 1 to {MAX_MODULES}")
        if not all(_is_size(number) for shape in self.shapes.values() for number in shape):
            raise ValueError("a shape is not two positive integers of a model's size")
        if not all(_is_text(text) for text in (self.fingerprint, *self.shapes)):
            raise ValueError(f"a name is not a printable text of at most {MAX_TEXT} characters")
        if len(self.parts) > MAX_PARTS or not all(_is_text(text) for part in self.parts.items() for text in part):
            raise ValueError(f"parts of the fingerprint are not at most {MAX_PARTS} printable texts")
        if not self.shapes.keys() >= {*(module.name for module in self.head), *self.embeddings}:
            raise ValueError("a module of the head, or an embedding, is no target module")
        if self.task not in TASKS:
            raise ValueError("task is not a known one")
        if self.problem_type not in get_args(Problem):
            raise ValueError("problem_type is not a known one")

    def to_values(self) -> dict[str, Any]:
        """Return plain values for a message or a line of a log."""
        return {
            "fingerprint": self.fingerprint,
            "modules": list(self.shapes),
            "d": [d for d, _ in self.shapes.values()],
            "k": [k for _, k in self.shapes.values()],
            "head": [module.name for module in self.head],
            "head_last": [module.last for module in self.head],
            "head_bias": [module.bias for module in self.head],
            "embeddings": list(self.embeddings),
            "task": self.task,
            **({} if self.problem_type == SINGLE else {"problem_type": self.problem_type}),
            **parts_to_values(self.parts),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_values`; other values are ignored.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or of another kind.
        """
        shapes = dict(zip(values["modules"], zip(values["d"], values["k"], strict=True), strict=True))
        if len(shapes) != len(values["modules"]):
            raise ValueError("a module occurs twice")
        head = zip(values["head"], values["head_last"], values["head_bias"], strict=True)
        modules = tuple(HeadModule(*module) for module in head)
        if not all(type(flag) is bool for module in modules for flag in (module.last, module.bias)):
            raise TypeError("a flag of the head is not true or false")
        if not all(type(name) is str for name in (*(module.name for module in modules), *values["embeddings"])):
            raise TypeError("a module's name is not a text")
        embeddings, parts = tuple(values["embeddings"]), parts_from_values(values)
        kind = values.get("problem_type", SINGLE)
        return cls(values["fingerprint"], values["task"], shapes, modules, embeddings, parts, kind)


def _is_size(number: object) -> bool:
    return type(number) is int and 0 < number <= MAX_DIMENSION


def _is_text(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_TEXT and text.isprintable()
