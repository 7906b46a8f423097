"""Outputs of a run, and of a model made from it, on the run's test rows."""

import torch

from client.finished.run import load_run, load_test_rows
from client.model.forward import forward
from client.model.lora import frozen_lane
from client.objectives.examples import eval_batches
from tests.helpers.client.nodes import PLACES
from tests.helpers.common.models import AUTO_MODEL


def _rows(run):
    """Return the run's test rows as one batch."""
    examples = load_test_rows(run)[1]
    (batch,) = eval_batches(examples, len(examples))
    return batch


def run_logits(run):
    """Those of the frozen base under the run's update."""
    trained = load_run(run)
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(trained.adapter)]
    with torch.no_grad():
        out = _read(forward(skeleton, _rows(run)), run)
    lora.lanes = ()
    return out


@torch.no_grad()
def logits_of(model, run):
    """Those of a model as Transformers or PEFT makes it."""
    batch = _rows(run)
    return _read(model.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits, run)


def _read(logits, run):
    """Logits, zero at padding, whose positions mean nothing."""
    return logits if logits.ndim == 2 else logits * _rows(run).attention_mask[..., None]


def plain_base(run):
    """Load the base with Transformers, which draws a head at random."""
    trained = load_run(run)
    classes = {"num_labels": len(PLACES)} if trained.node.data.task == "classification" else {}
    return AUTO_MODEL[trained.node.data.task].from_pretrained(trained.node.base.path, **classes)


def gap(one, other):
    """Return the largest difference."""
    return (one - other).abs().max().item()
