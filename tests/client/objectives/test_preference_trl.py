"""The loss of DPO beside that of TRL, where it is installed, on the same model, reference and pairs."""

import copy

import pytest
import torch

from client.data.tokens import IGNORE
from client.model.lora import merge
from client.objectives.examples import eval_batches
from client.training.evaluate import evaluate
from tests.helpers.client.training import bench, random_pairs
from tests.helpers.common.models import random_adapter

trl = pytest.importorskip("trl", reason="TRL is no dependency: its own are many")


def trl_loss(where, policy, beta, folder):
    """Return TRL's mean loss for all pairs in one batch, chosen rows first."""
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list([{"prompt": "a cow", "chosen": " hay", "rejected": " sea"}] * 4)
    settings = trl.DPOConfig(output_dir=str(folder), beta=beta, use_cpu=True, report_to=[], bf16=False)
    reference = copy.deepcopy(where.base.model)
    tokenizer = where.base.tokenizer
    trainer = trl.DPOTrainer(policy, reference, args=settings, train_dataset=rows, processing_class=tokenizer)
    (batch,) = eval_batches(where.rows, len(where.rows))
    ids, mask, targets = (
        each.transpose(0, 1).flatten(0, 1) for each in (batch.input_ids, batch.attention_mask, batch.targets)
    )
    inputs = {"input_ids": ids, "attention_mask": mask, "completion_mask": (targets != IGNORE).long()}
    with torch.no_grad():
        return trainer.compute_loss(policy.eval(), inputs).item()


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_the_loss_is_that_of_trl(tmp_path, beta):
    where = bench("llama", "preference", random_pairs([5, 9, 7, 6, 12, 8, 4, 10], given=(1, 3, 2), beta=beta))
    adapter = random_adapter(where.lora.shapes, (3,))
    ours = evaluate(where.base, where.lora, adapter, where.rows).loss
    where.lora.detach()
    policy = copy.deepcopy(where.base.model)
    merge(policy, adapter)
    assert trl_loss(where, policy, beta, tmp_path) == pytest.approx(ours, rel=1e-4)
    assert trl_loss(where, policy, 2 * beta, tmp_path) != pytest.approx(ours, rel=1e-2)  # control
