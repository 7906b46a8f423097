"""The labels that a run's classifier gives its test rows."""

import torch

from client.finished.run import Trained
from client.model.lora import frozen_lane
from client.objectives.examples import Examples, eval_batches
from client.training.adapted_model import AdaptedModel

_BATCH = 16


@torch.no_grad()
def predict_labels(trained: Trained, examples: Examples) -> tuple[list[int], list[int]]:
    """Return the likeliest label of each example, and its own, as places among the labels."""
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(trained.adapter, skeleton.device)]
    model, predicted, true = AdaptedModel(skeleton, lora), list[int](), list[int]()
    for batch in eval_batches(examples, _BATCH, pin=skeleton.device.type == "cuda"):
        predicted += model(batch.to(skeleton.device)).argmax(-1).tolist()
        true += batch.targets.tolist()
    lora.lanes = ()
    return predicted, true
