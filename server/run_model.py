"""The model of a run, decided before any node connects: by the operator's `base.toml`, or by a run that has begun."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import ConfigError, JournalError
from common.huggingface.base_file import BaseFile, read_base_file
from common.huggingface.base_folder import public_name
from common.huggingface.start_adapter import fit_start, load_start
from common.log_format import event
from common.settings.recipe import LoraSettings
from common.settings.server import RunBase
from server.earlier_runs import describe_earlier
from server.rounds.participants import RunModel
from server.storage.journal import Journal

log = logging.getLogger(__name__)


def find_model(
    base: RunBase, lora: LoraSettings, journal: Journal, adapter: Path, ranks: Iterable[int]
) -> tuple[RunModel, str]:
    """Return the model of a run, and the name of its base for the exported adapter.

    Args:
        base: [base] of the server's file, with resolved paths.
        lora: [lora] of it.
        journal: of the run; the first line of one that has begun has the model.
        adapter: folder of the published adapter, which describes a run that began before the log had the model.
        ranks: largest rank of each node on the roster.

    Raises:
        ConfigError, ModelError: [base] is not set, wrong, or not that of the run.
        JournalError: the run does not tell its model.
    """
    file = read_base_file(Path(base.file)) if base.file else None
    if file:
        _check_file(file, base, lora)
    begun = _begun_model(journal, adapter, file) if journal.entries else None
    if begun:
        _check_begun(begun, file, base)
    name = base.name or (file.name if file else public_name(base.path or ""))
    return begun or _with_start(_new_model(file, base, list(ranks)), base, name), name


def _check_file(file: BaseFile, base: RunBase, lora: LoraSettings) -> None:
    if file.targets != lora.targets:
        raise ConfigError(
            f"[lora] targets = {_spell(lora.targets)}, but {base.file} describes targets = {_spell(file.targets)}; "
            "describe the base again with --targets, or set the same"
        )
    if base.path:
        file.check_folder(base.path)


def _begun_model(journal: Journal, adapter: Path, file: BaseFile | None) -> RunModel:
    first = journal.entries[0]
    if "model" in first:
        return RunModel.begun(first)
    description = file.description if file else describe_earlier(journal, adapter)
    return RunModel.begun(first, description)


def _check_begun(model: RunModel, file: BaseFile | None, base: RunBase) -> None:
    if file and file.description != model.description:
        raise JournalError(
            f"the run began with a base of fingerprint {model.description.fingerprint:.12}, and {base.file} describes "
            f"{file.fingerprint:.12}, or other modules; give it the base that it began with, or start another run"
        )
    if base.max_rank not in (None, model.max_rank):
        raise JournalError(
            f"[base] max_rank = {base.max_rank}, but the run began with {model.max_rank}; restore it, or set another "
            "`run`"
        )


def _new_model(file: BaseFile | None, base: RunBase, ranks: Sequence[int]) -> RunModel:
    if file is None:
        raise ConfigError(
            "[base] file is not set; write the file at a node with `fedlora client --check NODE.toml --describe "
            "base.toml`, and name it: the base model is the operator's choice, not that of the first nodes"
        )
    if not (base.max_rank or ranks):
        raise ConfigError(
            "the roster has no nodes yet, so the largest rank is unknown; admit nodes first, or set [base] max_rank"
        )
    return RunModel(file.description, base.max_rank or max(ranks))


def _with_start(model: RunModel, base: RunBase, name: str) -> RunModel:
    """Return the model of a new run with the update of [base] adapter."""
    if not base.adapter:
        return model
    stored = load_start(base)
    if not stored.base_hash and Path(stored.base_name).name not in ("", Path(name).name):
        what = "[base] adapter = %r was made for the base model %r, and this run's is %r"
        log.warning(what, base.adapter, stored.base_name, name, extra=event("warning"))
    return replace(model, start=fit_start(stored, base.adapter, model.description))


def _spell(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
