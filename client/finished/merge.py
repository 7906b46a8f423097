"""The global update of a finished run, merged into its base model."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from client.data.batches import Batch
from client.finished.run import Trained, has_rows, load_test_rows
from client.model.base_model import AUTO_MODELS, BaseModel, load_base
from client.model.forward import forward
from client.model.lora import frozen_lane, merge
from client.objectives.examples import eval_batches, subset
from common.settings.tasks import TASKS, problem_of

PROBE = 32
"""Number of test rows on which a merged model is compared with base and adapter."""

SENTENCE = "A merged model answers as its base and adapter do."
"""The text to compare on if a run has no test rows."""


def merge_into_base(run: Path, trained: Trained, out: Path, dtype: torch.dtype) -> float:
    """Write base and update as one plain Hugging Face folder; return the largest difference between the logits.

    The sum is made in float32, and rounded once.

    Args:
        run: its folder, whose test rows the two are compared on.
        trained: the run.
        out: folder to write.
        dtype: of the written numbers.

    Raises:
        ModelError: a target's weight is quantised or tied.
    """
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(trained.adapter, skeleton.device)]
    expected = _probe(run, skeleton)
    lora.lanes = ()
    model = _merged(trained, dtype)
    config = AutoConfig.from_pretrained(trained.base.folder, local_files_only=True, trust_remote_code=False)
    for key in ("id2label", "label2id", "problem_type", "pad_token_id"):
        if hasattr(model.config, key):  # Configurations of several parts have some in their parts.
            setattr(config, key, getattr(model.config, key))
    config.architectures = [type(model).__name__]
    model.config = config  # The base's own config, with the dropout that loading set to 0.
    model.save_pretrained(out)
    trained.base.tokenizer.save_pretrained(out)
    return float((_probe(run, _reload(trained, out)) - expected).abs().max())


def _merged(trained: Trained, dtype: torch.dtype) -> Any:
    """Return a new model; the one that is loaded stays, since other callers share it."""
    own, data = trained.node.base, trained.node.data
    base = load_base(own.path, data.task, data.labels, "float32", own.device, own.head, problem_of(data))
    model = base.skeleton().model
    merge(model, trained.adapter)
    rounded = {id(p): nn.Parameter(p.detach().to(dtype), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, rounded)


@torch.no_grad()
def _probe(run: Path, base: BaseModel) -> Tensor:
    """Return the logits of the first test rows, or of `SENTENCE` if the run has none."""
    if has_rows(run):
        rows = load_test_rows(run)[1]
        batches = eval_batches(subset(rows, range(min(PROBE, len(rows)))), PROBE)
    else:
        ids = torch.tensor([base.tokenizer(SENTENCE)["input_ids"]])
        batches = iter([Batch(ids, torch.ones_like(ids), ids)])
    return torch.cat([forward(base, batch.to(base.device)).float().flatten() for batch in batches])


def _reload(trained: Trained, folder: Path) -> BaseModel:
    base = trained.base
    model = AUTO_MODELS[TASKS[base.task].peft].from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=base.model.dtype
    )
    return BaseModel(folder, model.eval().to(base.device), base.tokenizer, base.task, ())
