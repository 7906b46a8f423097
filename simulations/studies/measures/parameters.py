"""Numbers of trainable parameters by the LoRA paper's formulas (arXiv 2106.09685, section 5.1), and their bytes."""

from dataclasses import dataclass


def prefix_embedding(d: int, prefix: int, infix: int) -> int:
    """Return d (l_p + l_i): embeddings of that many tokens."""
    return d * (prefix + infix)


def prefix_layer(layers: int, d: int, prefix: int, infix: int) -> int:
    """Return L d (l_p + l_i): activations after every layer."""
    return layers * d * (prefix + infix)


def bottleneck(adapters: int, d: int, r: int, layer_norms: int = 0) -> int:
    """Return L_adpt (2 d r + r + d) + 2 L_LN d: down, up and their biases, and trained layer norms."""
    return adapters * (2 * d * r + r + d) + 2 * layer_norms * d


def lora(matrices: int, d: int, r: int) -> int:
    """Return 2 L_LoRA d r: A and B of so many d x d matrices."""
    return 2 * matrices * d * r


@dataclass(frozen=True)
class Footprint:
    """Bytes of training with Adam, without activations.

    Args:
        weights: of the model, and of what is trained beside it.
        optimizer: the two moments of what is trained.
        gradients: of what is trained; a framework that applies them layer by layer need not hold them all.
        checkpoint: what is stored of one task.
    """

    weights: int
    optimizer: int
    gradients: int
    checkpoint: int

    @property
    def held(self) -> int:
        """Bytes of weights and moments, which the paper counts (section 4.2)."""
        return self.weights + self.optimizer


def footprint(model: int, trained: int, width: int, beside: bool) -> Footprint:
    """Return the bytes of training so many of a model's parameters.

    Args:
        model: its number of parameters.
        trained: those that have gradients and moments.
        width: bytes of a number, of weights as of moments.
        beside: what is trained is beside the model, as LoRA is, and not part of it.
    """
    weights = model + trained if beside else model
    return Footprint(weights * width, 2 * trained * width, trained * width, trained * width)


GPT3 = 175_255_800_000
"""Parameters of GPT-3 175B, as arXiv 2106.09685 counts them (table 4)."""
GPT3_LAYERS, GPT3_WIDTH, GPT3_BYTES = 96, 12_288, 2
"""Its layers, its width, and the bytes of a number in float16."""


def gpt3(rank: int) -> tuple[Footprint, Footprint]:
    """Return the footprints of full fine-tuning and of LoRA of this rank on Wq and Wv of every layer."""
    trained = lora(2 * GPT3_LAYERS, GPT3_WIDTH, rank)
    return footprint(GPT3, GPT3, GPT3_BYTES, beside=False), footprint(GPT3, trained, GPT3_BYTES, beside=True)
