"""The layout of a LoRA file for llama.cpp: its name for each module, and the order of rows that it expects.

As llama.cpp's `convert_lora_to_gguf.py` writes it, for the architectures whose matrices its converters leave as they
are in a Hugging Face folder, but for the rows of queries and keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from common.adapters.adapter import Adapter, Factors
from common.errors import ModelError


@dataclass(frozen=True)
class Architecture:
    """llama.cpp's name of an architecture, and whether its queries and keys lie in the order of Meta's own rotation."""

    name: str
    rotates_pairs: bool = False


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "gemma": Architecture("gemma"),
        "gemma2": Architecture("gemma2"),
        "gemma3_text": Architecture("gemma3"),
        "gpt2": Architecture("gpt2"),
        "granite": Architecture("granite", rotates_pairs=True),
        "llama": Architecture("llama", rotates_pairs=True),
        "mistral": Architecture("llama", rotates_pairs=True),
        "olmo2": Architecture("olmo2"),
        "phi3": Architecture("phi3"),
        "qwen2": Architecture("qwen2"),
        "qwen3": Architecture("qwen3"),
        "smollm3": Architecture("smollm3", rotates_pairs=True),
    }
)
"""By Transformers' `model_type`."""


@dataclass(frozen=True)
class Heads:
    """Number of attention heads of queries, and of keys."""

    queries: int
    keys: int


def architecture_of(model_type: str) -> Architecture:
    """Return the architecture of a base model.

    Raises:
        ModelError: its matrices have another layout in llama.cpp, which fedlora does not know.
    """
    if model_type not in ARCHITECTURES:
        raise ModelError(
            f"--format gguf knows the layout of {', '.join(ARCHITECTURES)}, and the base model is a {model_type}; "
            "export with --format merged, and convert that with llama.cpp's own convert_hf_to_gguf.py"
        )
    return ARCHITECTURES[model_type]


def to_layout(adapter: Adapter, architecture: Architecture, layers: int, heads: Heads) -> dict[str, Factors]:
    """Return the factors by llama.cpp's tensor name, as `blk.0.attn_q.weight`, with rows of B in its order.

    Raises:
        ModelError: llama.cpp has no tensor for a module.
    """
    return {
        _tensor_name(name, architecture, layers): _ordered(name, factors, architecture, heads)
        for name, factors in adapter.items()
    }


def _tensor_name(module: str, architecture: Architecture, layers: int) -> str:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(each for each, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    name = get_tensor_name_map(number, layers).get_name(module)
    if name is None:
        raise ModelError(
            f"--format gguf: llama.cpp's {architecture.name} has no tensor for module {module}; export with "
            "--format merged, and convert that with llama.cpp's own convert_hf_to_gguf.py"
        )
    return f"{name}.weight"


def _ordered(module: str, factors: Factors, architecture: Architecture, heads: Heads) -> Factors:
    counts = {"q_proj": heads.queries, "k_proj": heads.keys}
    count = counts.get(module.rpartition(".")[2]) if architecture.rotates_pairs else None
    return _pair_rows(factors, count) if count else factors


def _pair_rows(factors: Factors, heads: int) -> Factors:
    """Put the rows of each rotated pair side by side: of a head, rows i and i + half become 2 i and 2 i + 1."""
    d, rank = factors.b.shape
    b = factors.b.reshape(heads, 2, d // heads // 2, rank).swapaxes(1, 2).reshape(d, rank)
    return Factors(factors.a, b)
