"""What a fingerprint is made of, part by part, so that people are told which part of two nodes differs.

Each part is a short printable text, equal for equal parts. Only the fingerprint itself decides who trains together.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.adapters.adapter import Shapes
from common.errors import printable
from common.huggingface.fingerprint import architecture_hash, base_hash, tokenizer_hash
from common.settings.tasks import SINGLE

Parts = Mapping[str, str]
BASE, TOKENIZER, TARGETS = "base model", "tokenizer", "targets"
_LABELS = "labels"
_UNSTATED = {"head": '"keep"', "problem_type": f'"{SINGLE}"'}
"""Parts that are stated only where they are not this."""
MAX_PARTS = 16
"""Most parts that a peer may state."""
_SHOWN = 96
"""Most characters of a value that are shown; the rest is in its hash."""


def folder_parts(folder: Path) -> dict[str, str]:
    """Return the parts that are read from a base model's folder, as SHA-256.

    Raises:
        ModelError: the folder contains no safetensors, or a file of it is damaged.
    """
    return {BASE: _digest([base_hash(folder), architecture_hash(folder)]), TOKENIZER: tokenizer_hash(folder)}


def settings_parts(
    shapes: Shapes, task: str, labels: Sequence[str], max_length: int, shared: Mapping[str, Any]
) -> dict[str, str]:
    """Return the other parts; the arguments are those of `fingerprint`."""
    hashed = _digest({name: list(shape) for name, shape in shapes.items()})
    rest = {_LABELS: list(labels)} if labels else {}
    told = {key: _shortened(value) for key, value in {**rest, "max_length": max_length, **shared}.items()}
    return {TARGETS: f"{len(shapes)} modules, SHA-256 {hashed:.12}", "task": task, **told}


def parts_to_values(parts: Parts) -> dict[str, Any]:
    """Return plain values for a message or a line of a log; nothing for no parts."""
    return {"parts": list(parts), "part_values": list(parts.values())} if parts else {}


def parts_from_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Undo `parts_to_values`; an earlier release states none.

    Raises:
        TypeError, ValueError: they are of another kind.
    """
    names, texts = values.get("parts", []), values.get("part_values", [])
    if not (type(names) is list and type(texts) is list and all(type(text) is str for text in (*names, *texts))):
        raise TypeError("the parts of the fingerprint are not texts")
    return dict(zip(names, texts, strict=True))


def refusal_of(asked: Mapping[str, Any], announced: Mapping[str, Any]) -> str | None:
    """Return why a server refuses a node for its fingerprint, or None if it does not.

    Args:
        asked: values of the server's question, which names the run's fingerprint; an earlier release's does not.
        announced: values of the node's answer.

    Raises:
        TypeError, ValueError: the parts that the server states are of another kind.
    """
    if asked.get("base") in (None, announced.get("fingerprint")):
        return None
    told = tell_differences(parts_from_values(asked), parts_from_values(announced))
    return f"what this node trains is not what the run trains: {told}"


def tell_differences(run: Parts, node: Parts) -> str:
    """Return the parts in which a node differs from its run, each with both values; printable, whoever states them."""
    for key in _UNSTATED.keys() & {*run, *node}:
        run, node = {key: _UNSTATED[key], **run}, {key: _UNSTATED[key], **node}
    known = [key for key in run if key in node]
    if TARGETS in known and run.get("task") == node.get("task"):  # A setting that is not set is not stated.
        known += [key for key in {**run, **node} if key not in (BASE, TOKENIZER, *known)]
    told = [
        f"{key}: the run has {_cut(run.get(key, 'none'))}, the node {_cut(node.get(key, 'none'))}"
        f"{_remedy(key, run, node)}"
        for key in known
        if run.get(key) != node.get(key)
    ]
    silent = [key for key in (BASE, TOKENIZER) if key not in known]
    return printable("; ".join(told)) or " or ".join(silent or ["targets"])


def _remedy(key: str, run: Parts, node: Parts) -> str:
    """Return how to take the same labels in the run's order, if that is the difference."""
    try:
        alike = key == _LABELS and sorted(json.loads(run[key])) == sorted(json.loads(node[key]))
    except (KeyError, TypeError, ValueError):  # Long lists are cut.
        return ""
    if not alike:
        return ""
    return " (set labels in the run's order, and head = \"listed\" if the base's own head has another order)"


def _cut(text: str) -> str:
    """Return a hash's first digits; any other text as it is."""
    return text[:12] if len(text) == 64 and not text.strip("0123456789abcdef") else text


def _shortened(value: Any) -> str:
    """Return a value as JSON, of which a long one is cut, with a hash of all of it."""
    text = json.dumps(value)
    count = f" {len(value)} in all," if isinstance(value, list) else ""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ...,{count} SHA-256 {_digest(value):.12}"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
