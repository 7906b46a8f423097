"""The global update of a finished run, merged into its base model."""

import copy
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig

from client.data.batches import Batch
from client.data.tokens import IGNORE
from client.finished.run import Trained, has_rows, load_test_rows
from client.model.base_model import AUTO_MODELS, BaseModel, load_base
from client.model.forward import forward
from client.model.lora import frozen_lane, merge
from client.model.quantised import as_numbers, forget_quantisation, quantised_modules
from client.objectives.examples import eval_batches, subset
from common.settings.tasks import TASKS, problem_of

PROBE = 32
"""Number of test rows on which a merged model is compared with base and adapter."""

SENTENCE = "A merged model answers as its base and adapter do."
"""The text to compare on if a run has no test rows."""


@dataclass(frozen=True)
class Gap:
    """How far the logits of a merged model are from those of base and update.

    Args:
        largest: difference of a logit.
        mean: difference.
        spread: standard deviation of the logits of base and update.
    """

    largest: float
    mean: float
    spread: float

    @property
    def share(self) -> float:
        """The mean difference in standard deviations, whatever the scale of a model's logits."""
        return self.mean / self.spread if self.spread else self.mean and inf


def merge_into_base(run: Path, trained: Trained, out: Path, dtype: torch.dtype) -> Gap:
    """Write base and update as one plain Hugging Face folder; return how far its logits are from those of the two.

    The sum is made in float32, and rounded once. Layers of a quantised base are summed with the weights that they have
    in the run, not with those from before they were quantised: the update was trained on the former.

    Args:
        run: its folder, whose test rows the two are compared on.
        trained: the run.
        out: folder to write.
        dtype: of the written numbers.

    Raises:
        ModelError: a target's weight is tied.
    """
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(trained.adapter, skeleton.device)]
    expected = _probe(run, skeleton)
    lora.lanes = ()
    model = _merged(trained, dtype)
    config = AutoConfig.from_pretrained(trained.base.folder, local_files_only=True, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    for key in ("id2label", "label2id", "problem_type", "pad_token_id"):
        if hasattr(model.config, key):  # Configurations of several parts have some in their parts.
            setattr(config, key, getattr(model.config, key))
    config.architectures = [type(model).__name__]
    model.config = config  # The base's own config, with the dropout that loading set to 0.
    model.save_pretrained(out)
    trained.base.tokenizer.save_pretrained(out)
    apart = (_probe(run, _reload(trained, out)) - expected).abs()
    return Gap(float(apart.max()), float(apart.mean()), float(expected.std()))


def _merged(trained: Trained, dtype: torch.dtype) -> Any:
    """Return a new model; the one that is loaded stays, since other callers share it."""
    own, data = trained.node.base, trained.node.data
    base = load_base(own.path, data.task, data.labels, "float32", own.device, own.head, problem_of(data))
    model = base.skeleton().model
    for name, layer in quantised_modules(trained.base.model).items():
        model.set_submodule(name, as_numbers(layer))
    if hasattr(model, "hf_quantizer"):  # The checkpoint is quantised.
        forget_quantisation(model)
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
    return torch.cat([_logits(base, batch.to(base.device)) for batch in batches])


def _logits(base: BaseModel, batch: Batch) -> Tensor:
    """Return the logits of a batch in a row, without those at padding, which mean nothing."""
    logits = forward(base, batch).float()
    if logits.ndim == 2:
        return logits.flatten()
    written = batch.targets != IGNORE if TASKS[base.task].seq2seq else batch.attention_mask.flatten(0, -2).bool()
    return logits[written].flatten()


def _reload(trained: Trained, folder: Path) -> BaseModel:
    base = trained.base
    model = AUTO_MODELS[TASKS[base.task].peft].from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=base.model.dtype
    )
    return BaseModel(folder, model.eval().to(base.device), base.tokenizer, base.task, ())
