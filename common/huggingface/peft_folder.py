"""Adapter <-> Hugging Face PEFT folder, without torch and without peft.

    adapter_config.json         target modules, ranks, alpha
    adapter_model.safetensors   base_model.model.NAME.lora_A.weight (r, k) and .lora_B.weight (d, r),
                                base_model.model.NAME.weight for a module that is saved whole

The scale is folded into b, so a module is written with alpha = r, which PEFT turns into a scaling of 1.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  # teaches NumPy the bfloat16 that folders of other programs contain
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from common.adapters.adapter import Adapter, Array, Factors, zeros
from common.atomic_files import write_file
from common.errors import ModelError
from common.huggingface.new_head import HeadModule, initial_weight
from common.huggingface.peft_config import CONFIG, REMEDY, LoraConfig, read_config
from common.plain_files import check_plain
from common.settings.tasks import TASKS

WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_BASE_HASH = "base_sha256"
"""In the metadata of the weights, which other programs ignore."""
_FACTOR = re.compile(r"(?P<name>.+)\.(?:lora_(?P<side>[AB])\.weight|lora_embedding_(?P<embedding>[AB]))")
_SAVED_BY_PEFT = re.compile(r"(?:.+\.)?(?:classifier|score)(?=\.|$)")


@dataclass(frozen=True, eq=False)
class PeftAdapter:
    """The content of a PEFT folder.

    Args:
        adapter: factors with the scale folded into b.
        saved: tensors to put in place of the base model's of the same name (PEFT's `modules_to_save`).
        embeddings: names of the modules that are embeddings.
        base_name: of the base model, as the folder states it; empty if it does not.
        base_hash: SHA-256 of the base model (`fingerprint_parts.BASE`), likewise.
    """

    adapter: Adapter
    saved: Mapping[str, Array]
    embeddings: tuple[str, ...] = ()
    base_name: str = ""
    base_hash: str = ""


def write_peft_folder(
    folder: Path,
    adapter: Adapter,
    head: Sequence[HeadModule],
    base: str,
    task: str,
    embeddings: Collection[str] = (),
    base_hash: str = "",
) -> None:
    """Make a PEFT folder; the arguments are those of `render_peft_folder`.

    Args:
        folder: made if it does not exist; the two files in it are replaced.
    """
    write_files(folder, render_peft_folder(adapter, head, base, task, embeddings, base_hash))


def render_peft_folder(
    adapter: Adapter,
    head: Sequence[HeadModule],
    base: str,
    task: str,
    embeddings: Collection[str] = (),
    base_hash: str = "",
) -> dict[str, bytes]:
    """Return the files of a PEFT folder: targets as LoRA, the head as finished modules for a plain base.

    The folder does not record which targets are a Conv1D (GPT-2): PEFT detects them, and warns that
    it sets `fan_in_fan_out`.

    Args:
        adapter: factors of every target, those of `head` included.
        head: modules that the base checkpoint lacks.
        base: path or name of the base model, for PEFT's `AutoPeftModel...` classes.
        task: of the run.
        embeddings: names of the targets that are embeddings, which PEFT stores under other keys.
        base_hash: SHA-256 of the base model, which the folder then states.
    """
    targets = _targets(adapter, {module.name for module in head})
    tensors = _factor_tensors(targets, embeddings) | _head_tensors(adapter, head)
    config = json.dumps(_lora_config(targets, head, base, task), indent=2) + "\n"
    weights = save(tensors, metadata={"format": "pt"})
    return {WEIGHTS: _stating(weights, base_hash) if base_hash else weights, CONFIG: config.encode()}


def _stating(weights: bytes, base_hash: str) -> bytes:
    """Return weights whose metadata also state the base; safetensors would write two entries in either order."""
    start = 8 + int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8:start])
    header["__metadata__"][_BASE_HASH] = base_hash
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + weights[start:]


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made if it does not exist; those of these names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_file(folder / name, content)


def _targets(adapter: Adapter, head: Collection[str]) -> Adapter:
    """Return the modules for PEFT, without those of rank 0, which it lacks; if all are such, zeros of rank 1."""
    body = Adapter({name: factors for name, factors in adapter.items() if name not in head})
    trained = Adapter({name: factors for name, factors in body.items() if factors.rank})
    return trained or zeros(body.shapes, rank=1)


def _factor_tensors(targets: Adapter, embeddings: Collection[str]) -> dict[str, Array]:
    keys = {name: ("lora_embedding_{}" if name in embeddings else "lora_{}.weight") for name in targets}
    return {
        f"{_PREFIX}{name}.{keys[name].format(side)}": np.ascontiguousarray(array, np.float32)
        for name, factors in targets.items()
        for side, array in (("A", factors.a), ("B", factors.b))
    }


def _head_tensors(adapter: Adapter, head: Sequence[HeadModule]) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    for module in head:
        update = adapter[module.name].astype("f8")
        weight = initial_weight(module, update.shape) + update.b @ update.a
        tensors[f"{_PREFIX}{module.name}.weight"] = weight.astype(np.float32)
        if module.bias:
            tensors[f"{_PREFIX}{module.name}.bias"] = np.zeros(update.shape[0], np.float32)
    return tensors


def _lora_config(targets: Adapter, head: Sequence[HeadModule], base: str, task: str) -> dict[str, Any]:
    others = {name: factors.rank for name, factors in targets.items() if factors.rank != targets.rank}
    return {
        "peft_type": "LORA",
        "task_type": _task_type(task, head),
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": targets.rank,
        "lora_alpha": targets.rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(targets),
        "modules_to_save": sorted({_saved_module(module.name) for module in head}) or None,
    }


def _task_type(task: str, head: Sequence[HeadModule]) -> str | None:
    """Return PEFT's name of the task; None for a base with its own head, which SEQ_CLS would seek in the folder."""
    return None if TASKS[task].labels and not head else TASKS[task].peft


def _saved_module(name: str) -> str:
    """Return the module that PEFT saves whole: SEQ_CLS does so with every `classifier` and `score`."""
    whole = _SAVED_BY_PEFT.match(name)
    return whole.group() if whole else name


def read_peft_folder(folder: Path) -> PeftAdapter:
    """Read the adapter in a PEFT folder, written by fedlora or by another program.

    Raises:
        ModelError: it is not a LoRA folder, its weights are a pickle or damaged, or it does more than add s B A.
    """
    config, (tensors, metadata) = read_config(folder / CONFIG), _read_weights(folder)
    pairs: dict[str, dict[str, Array]] = defaultdict(dict)
    saved, embeddings = {}, set()
    for key, tensor in tensors.items():
        name = key.removeprefix(_PREFIX)
        if match := _FACTOR.fullmatch(name):
            embeddings |= {match["name"]} if match["embedding"] else set()
            pairs[match["name"]][match["side"] or match["embedding"]] = tensor
        elif "lora_" in name or "trainable_tokens" in name:
            raise ModelError(f"{folder / WEIGHTS}: {key} is not a LoRA factor of a matrix; {REMEDY}")
        else:
            saved[name.replace(".base_layer.", ".")] = tensor
    adapter = Adapter({name: _factors(folder, name, pair, config) for name, pair in pairs.items()})
    stated = config.base_model_name_or_path or "", metadata.get(_BASE_HASH, "")
    return PeftAdapter(adapter, saved, tuple(sorted(embeddings)), *stated)


def _read_weights(folder: Path) -> tuple[dict[str, Array], Mapping[str, str]]:
    """Return the tensors of a folder, and the metadata beside them."""
    path = folder / WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise ModelError(
            f"{folder / 'adapter_model.bin'} is a pickle that could run code; save the adapter again with a PEFT that "
            f"writes {WEIGHTS}"
        )
    try:
        check_plain(path, links=True)
        with safe_open(path, framework="np") as stored:
            metadata = stored.metadata() or {}
        return load_file(path), metadata
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read {path}: {error}; save or copy the adapter again") from None


def _factors(folder: Path, name: str, pair: Mapping[str, Array], config: LoraConfig) -> Factors:
    where = f"{folder / WEIGHTS}: {name}"
    if set(pair) != {"A", "B"}:
        raise ModelError(f"{where} lacks its lora_{'A' if 'B' in pair else 'B'}; save the adapter again")
    try:
        factors = Factors(pair["A"], config.scaling(name) * pair["B"].astype("f4"))
    except ValueError as error:
        raise ModelError(f"{where}: {error}; {REMEDY}") from None
    if factors.rank != config.rank(name):
        raise ModelError(
            f"{where} has rank {factors.rank}, but {CONFIG} has {config.rank(name)}; save the adapter again"
        )
    return factors.astype("f4")
