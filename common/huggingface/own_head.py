"""The trained classification head that a checkpoint has of its own: its classes in the order of its outputs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from common.errors import ModelError
from common.huggingface.base_folder import read_json
from common.huggingface.fingerprint import tensor_shapes
from common.settings.tasks import Problem

_LAST = re.compile(r"((classifier|classification_head|score|cls)(\.(out_proj|linear_out))?|logits_proj)\.weight")
_SUMMARY = "sequence_summary.summary.weight"
"""Last projections of Transformers' classes for sequences; XLM's is a summary, which XLNet has before another one."""
_WHOLE = re.compile(r"^(-?[0-9]+)\.0+$")
"""A number as data frames write it."""
_UNNAMED = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class OwnHead:
    """A checkpoint's own head.

    Args:
        classes: in the order of its outputs; `LABEL_0`, `LABEL_1` ... where the checkpoint does not name them.
        problem_type: that it was trained for, where the checkpoint says it.
    """

    classes: tuple[str, ...]
    problem_type: str | None = None

    @property
    def named(self) -> bool:
        """Whether the checkpoint names its classes."""
        return not unnamed(self.classes)

    def order(self, labels: Sequence[str]) -> tuple[str, ...]:
        """Return the labels in the order of the head's outputs if they are its classes, but for case and blanks.

        Whole numbers are the classes of a head without names. Other labels are returned as they are.
        """
        known = {_plain(label): label for label in labels}
        own = [_plain(name) for name in self.classes]
        if len(known) == len(labels) == len(own) and known.keys() == {*own}:
            return tuple(known[name] for name in own)
        return tuple(labels)

    def others(self, labels: Sequence[str]) -> list[tuple[str, str]]:
        """Return (class, label) of each output whose class has another name than the label at its place."""
        pairs = zip(self.classes, labels, strict=True)
        return [(name, label) for name, label in pairs if _plain(name) != _plain(label)]


def unnamed(names: Sequence[str]) -> bool:
    """Return whether these are the names of outputs that nobody named."""
    return all(_UNNAMED.fullmatch(name) for name in names)


def output_names(count: int) -> tuple[str, ...]:
    """Return the names that Transformers gives to outputs that nobody names."""
    return tuple(f"LABEL_{place}" for place in range(count))


def trained_for(folder: Path) -> Problem | None:
    """Return the `problem_type` that the configuration of a base model states; None if it states none of the known."""
    try:
        config = read_json(folder / "config.json")
    except ModelError:
        return None  # Whoever loads the base model says what is wrong.
    stated = config.get("problem_type") if isinstance(config, dict) else None
    return stated if stated in get_args(Problem) else None


def own_head(folder: Path) -> OwnHead | None:
    """Return the own head of the base model in this folder; None if its checkpoint has none, or cannot be read.

    Whoever loads the base model says why it cannot be read.
    """
    try:
        shapes, config = tensor_shapes(folder), read_json(folder / "config.json")
    except ModelError:
        return None
    last = next((name for name in shapes if _LAST.fullmatch(name)), _SUMMARY)
    if len(shape := shapes.get(last, ())) != 2:
        return None
    names, places = config.get("id2label") if isinstance(config, dict) else None, range(shape[0])
    if isinstance(names, dict) and names.keys() == {str(place) for place in places}:
        return OwnHead(tuple(str(names[str(place)]) for place in places), trained_for(folder))
    return OwnHead(output_names(shape[0]), trained_for(folder))


def _plain(name: str) -> str:
    text = _WHOLE.sub(r"\1", " ".join(name.split()).casefold())
    return text.removeprefix("label_") if _UNNAMED.fullmatch(name) else text
