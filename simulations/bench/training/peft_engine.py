"""PEFT's side of a step: the same start, the same batches, the same optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from client.model.targets import find_targets
from client.objectives.examples import Examples, batches
from common.adapters.adapter import Adapter, Factors
from common.protocol.assignment import Assignment
from common.settings.tasks import TASKS
from simulations.bench.training.bases import NODE, RANK, Case


def peft_engine(case: Case) -> Callable[[Assignment], Adapter]:
    """Return a function from an assignment to the trained adapter, on our batches; PEFT has no frozen branch."""
    base = case.base()
    names, rows = find_targets(base, "query-value"), case.rows(base)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(names))
    model: Any = get_peft_model(base.skeleton().model, config)
    layers = {name: model.base_model.model.get_submodule(name) for name in names}
    sides = {n: (each.lora_A["default"].weight, each.lora_B["default"].weight) for n, each in layers.items()}

    def steps(assigned: Assignment) -> Adapter:
        for name, (a, b) in sides.items():  # New tensors, so that a call's memory includes its factors, as ours does.
            a.data, b.data = torch.tensor(assigned.start[name].a), torch.tensor(assigned.start[name].b)
        _train(case, model, rows)
        return Adapter({n: Factors(a.detach().numpy(), b.detach().numpy()) for n, (a, b) in sides.items()})

    return steps


def _train(case: Case, model: Any, rows: Examples) -> None:
    training, caching = case.training, {"use_cache": False} if TASKS[case.task].causal else {}
    leaves = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(leaves, lr=case.rate, weight_decay=0.0)
    for batch in batches(rows, case.batch, case.steps, (training.seed, NODE, training.round)):
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.targets}
        loss = model(**inputs, **caching).loss  # As in ours, no variable keeps the logits during the backward pass.
        loss.backward()
        nn.utils.clip_grad_norm_(leaves, training.clip)
        optimizer.step()
        optimizer.zero_grad()
