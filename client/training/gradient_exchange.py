"""The gradient of the rows of one exchange and what earlier replies left out, compressed to a node's rank.

    h = g + E        reply: the best approximation of h at the node's rank, rounded        next E = h - reply

This is error feedback (arXiv 1905.13727, algorithm 2). A node takes no step and clips nothing. Its rows go on through
its epochs from one exchange to the next; they are read in two random halves, whose distance tells the batch noise.
"""

from dataclasses import dataclass

import numpy as np

from client.memory.error_memory import Matrices, Memory
from client.training.passes import Passes, Sums
from common.adapters.adapter import Adapter
from common.adapters.gradient import compress, unsent
from common.adapters.rounding import Wire, round_adapter


@dataclass(frozen=True)
class GradientReply:
    """A compressed gradient.

    Args:
        gradient: in the form of `common.adapters.gradient`.
        examples: rows read, with repetition.
        tokens: predictions that carried loss.
        loss: their mean, in nats.
        noise: variance of the gradient in the directions that are sent, summed over its numbers; 0 for a single row.
        memory: what the node keeps if the server counts this reply.
    """

    gradient: Adapter
    examples: int
    tokens: int
    loss: float
    noise: float
    memory: Memory


def exchange_gradient(passes: Passes, before: Matrices) -> GradientReply:
    """Return the gradient of the mean loss over the rows of an exchange, with what was not sent before.

    Args:
        passes: over these rows.
        before: what was not sent, by side; one that is absent is 0.
    """
    asked = passes.assignment
    halves = passes.halves()
    both = halves[0] + halves[1]
    own = passes.as_matrices(both)
    whole = {side: matrix + before[side] if side in before else matrix for side, matrix in own.items()}
    exact = Adapter({side: compress(matrix, asked.reply_rank) for side, matrix in whole.items()})
    sent = round_adapter(exact, asked.wire, *passes.key, omit=unsent(exact))
    kept = Memory(left_out(whole, sent, asked.wire), passes.scale)
    loss = both.loss / max(both.count, 1)
    return GradientReply(sent, passes.rows, both.count, loss, batch_noise(passes, *halves, sent), kept)


def left_out(whole: Matrices, sent: Adapter, wire: Wire = "float32") -> Matrices:
    """Return what a compressed and rounded gradient leaves out of each matrix, in float32, where that is anything."""
    rounded = wire != "float32"
    cut = {side: factors for side, factors in sent.items() if rounded or factors.rank < factors.shape[1]}
    return {side: (whole[side] - f.b.astype("f8") @ f.a.astype("f8")).astype("f4") for side, f in cut.items()}


def batch_noise(passes: Passes, first: Sums, second: Sums, sent: Adapter) -> float:
    """Return the variance of the mean gradient of two halves of c1 and c2 predictions: c1 c2 / C^2 ||(g1 - g2) V||^2.

    V are the orthonormal directions of what is sent of a gradient.
    """
    one, two = first.count, second.count
    if not one or not two:
        return 0.0
    others = passes.as_matrices(second)
    gaps = {side: g - others[side] for side, g in passes.as_matrices(first).items()}
    gap = sum(float(np.sum((each @ sent[side].a.T) ** 2, dtype="f8")) for side, each in gaps.items())
    return one * two / (one + two) ** 2 * gap
