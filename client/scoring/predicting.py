"""What a run's classifier gives its test rows: labels, or numbers."""

import torch

from client.finished.run import Trained
from client.model.lora import frozen_lane
from client.objectives.examples import Examples, eval_batches
from client.training.adapted_model import AdaptedModel

_BATCH = 16


@torch.no_grad()
def predict(trained: Trained, examples: Examples) -> tuple[list[float], list[float]]:
    """Return the likeliest label of each example and its own, as places among the labels; or its numbers and its own.

    Of several numbers a row, all are in one list, row by row.
    """
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(trained.adapter, skeleton.device)]
    model, predicted, true = AdaptedModel(skeleton, lora), list[float](), list[float]()
    for batch in eval_batches(examples, _BATCH, pin=skeleton.device.type == "cuda"):
        outputs = model(batch.to(skeleton.device)).float()
        found = outputs if trained.node.data.has_numbers else outputs.argmax(-1)
        predicted += found.flatten().tolist()
        true += batch.targets.flatten().tolist()
    lora.lanes = ()
    return predicted, true
