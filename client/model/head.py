"""The head of a classifier: a new one where the checkpoint lacks it or it is replaced, or the checkpoint's own."""

import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from common.errors import ModelError
from common.huggingface.new_head import HeadModule, initial_weight
from common.huggingface.own_head import OwnHead, own_head
from common.log_format import event
from common.settings.tasks import SINGLE, Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lacking:
    """Keys of a model that its checkpoint does not have, or has in another shape."""

    missing: list[str]
    mismatched: list[str]


_IN_LAYER = re.compile(r"\.\d+\.")
"""In the key of a tensor of one of many layers, which no checkpoint lacks; a pooler is none."""
REMEDY = 'head = "new" (in a recipe: [base] head) replaces it by a new head'


def check_own_head(folder: Path, labels: Collection[str], problem: Problem = SINGLE) -> None:
    """Say what the outputs of the checkpoint's own head, which is kept, are taken for.

    Args:
        folder: of the checkpoint.
        labels: in the order of the outputs.
        problem: what a row has.

    Raises:
        ModelError: it has another number of outputs than there are labels.
    """
    if (own := own_head(folder)) is None:
        return
    if len(own.classes) != len(labels):
        numbers = ', or problem_type = "regression" if the labels are numbers' if len(own.classes) == 1 else ""
        raise ModelError(
            f"{folder} has a classification head of its own with {len(own.classes)} classes{_names(own)}, and there "
            f"are {len(labels)} labels ({_listed(labels)}); {REMEDY}{numbers}"
        )
    if own.problem_type not in (None, problem):
        what = f"a classification head of its own that was trained for {own.problem_type}, and is used for {problem}"
        remedy = f'if that is wrong, set problem_type = "{own.problem_type}" (in a recipe: [data] problem_type), or'
        log.warning("%s", f"{folder} has {what}; {remedy} {REMEDY}", extra=event("warning"))
    if others := own.others([*labels]):
        told = ", ".join(f"{name} is taken for {label!r}" for name, label in others[:8])
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        what = "other classes than the labels" if own.named else "classes without names"
        text = f"{folder} has a classification head of its own with {what}: {told}{more}; if that is wrong, {REMEDY}"
        log.warning("%s", text, extra=event("warning"))


def new_modules(folder: Path, model: nn.Module, lacking: Lacking, replace: bool) -> tuple[tuple[HeadModule, ...], bool]:
    """Return the modules of the new head, and whether it replaces one of the checkpoint.

    Args:
        folder: of the checkpoint.
        model: as loaded.
        lacking: what the checkpoint does not give to it.
        replace: a head of the checkpoint is to be replaced.

    Raises:
        ModelError: a tensor of a layer is missing, or one beside the head has another shape than the model's.
    """
    body = f"{getattr(model, 'base_model_prefix', '')}."
    if absent := next((key for key in lacking.missing if key.startswith(body) and _IN_LAYER.search(key)), None):
        raise ModelError(f"{folder} lacks the tensor {absent}, which its config.json asks for; copy the model again")
    missing = _modules(lacking.missing)
    linear = [(name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear)]
    own = outside_the_body(model, [name for name, _ in linear])
    if others := [key for key in lacking.mismatched if not replace or key.rpartition(".")[0] not in own]:
        raise ModelError(f"{folder}: {others[0]} has another shape than config.json gives it; copy the model again")
    replaced = replace and bool(own) and own[-1] not in missing
    new = [(name, each) for name, each in linear if name in missing or (replaced and name in own)]
    return tuple(HeadModule(name, (name, each) == new[-1], each.bias is not None) for name, each in new), replaced


def _modules(keys: Iterable[str]) -> set[str]:
    return {key.rpartition(".")[0] for key in keys if key.endswith(".weight")}


def outside_the_body(model: nn.Module, names: list[str]) -> list[str]:
    """Return the modules that are not of the model's body; only the last one if it has none."""
    body = getattr(model, "base_model_prefix", "")
    return [name for name in names if not name.startswith(f"{body}.")] if hasattr(model, body) else names[-1:]


def initialise(model: nn.Module, head: Iterable[HeadModule]) -> None:
    """Give the modules of a new head the weights that all nodes begin with."""
    for new in head:
        module = model.get_submodule(new.name)
        assert isinstance(module, nn.Linear)
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(initial_weight(new, (module.out_features, module.in_features))))
            if module.bias is not None:
                module.bias.zero_()


def _names(own: OwnHead) -> str:
    return f" ({_listed(own.classes)})" if own.named else ""


def _listed(names: Collection[str]) -> str:
    shown = [repr(name) for name in [*names][:8]]
    return ", ".join([*shown, f"and {len(names) - 8} more"] if len(names) > 8 else shown)
