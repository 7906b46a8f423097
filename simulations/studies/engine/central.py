"""Central training of any method: the product's batches, objective, schedule and optimizer, in one process.

Adapters A and B that are trained here are those that `client.training.train` gives, bit for bit.
"""

from itertools import islice

import torch

from client.model.lora import Lane
from client.objectives.examples import Examples
from client.training.progress import Watch, ignore
from client.training.train import backward, node_batches, optimizer_step, pass_dropout
from common.protocol.assignment import Training
from simulations.studies.methods.attached import Attached

NAME = "pool"
"""Keys the order of the rows."""


def train_centrally(attached: Attached, examples: Examples, training: Training, watch: Watch = ignore) -> float:
    """Train a method and the new head on the rows of all clients, and return the mean loss.

    Args:
        attached: the method on its model.
        examples: rows of all.
        training: rates, batches, clip and dropout.
        watch: called after each step.
    """
    base, parameters = attached.model.base, [*attached.own, *attached.head]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)
    scaler = torch.amp.GradScaler(base.device.type, enabled=base.model.dtype == torch.float16)
    passes, losses = node_batches(examples, NAME, training, base.device), []
    for step, rate in enumerate(training.learning_rates):
        group = list(islice(passes, training.accumulate))
        keys = (pass_dropout(training, NAME, step, part) for part in range(len(group)))
        lanes = [Lane(attached.lane.trained, dropout=each) for each in keys]
        losses.append(backward(attached.model, examples.objective, group, lanes, scaler))
        scaler.unscale_(optimizer)
        optimizer_step(optimizer, scaler, parameters, rate, training.clip)
        watch(step, losses[-1])
    attached.model.lora.lanes = [attached.lane]
    return torch.stack(losses).mean().item()
