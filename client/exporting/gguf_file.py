"""The global update of a finished run as a LoRA file for llama.cpp and what is built on it, such as Ollama."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import nn

from client.exporting.gguf_layout import Heads, architecture_of, to_layout
from client.finished.run import Trained
from common.adapters.adapter import Adapter, Factors
from common.errors import ConfigError, ModelError
from common.settings.tasks import TASKS

FILE = "adapter.gguf"


def check_gguf(trained: Trained) -> None:
    """Check that llama.cpp can have this update.

    Raises:
        ConfigError: the package that writes such files is not installed.
        ModelError: the base has an encoder or is of another architecture, or a module is an embedding or a new head.
    """
    if find_spec("gguf") is None:
        raise ConfigError("--format gguf needs the package gguf; run: pip install 'fedlora[gguf]'")
    if TASKS[trained.base.task].seq2seq:
        raise ModelError(
            f"--format gguf: {trained.base.folder} is an encoder with a decoder, and llama.cpp takes adapters of "
            "decoders alone; export with --format peft or merged"
        )
    heads = {module.name for module in trained.base.head}
    for name in trained.adapter:
        if name in heads:
            raise ModelError(
                f"--format gguf: {name} is a classification head, which an adapter for llama.cpp cannot hold; export "
                "with --format peft or merged"
            )
        if isinstance(trained.base.model.get_submodule(name), nn.Embedding):
            raise ModelError(
                f"--format gguf: {name} is an embedding, and llama.cpp fits its adapter to the output layer too where "
                "the two are tied; export with --format merged, and convert that with llama.cpp's own "
                "convert_hf_to_gguf.py"
            )
        if trained.base.model.get_submodule(name).weight is trained.base.model.get_input_embeddings().weight:
            raise ModelError(
                f"--format gguf: {name} is tied to the embedding, so a file of llama.cpp has no tensor for it alone; "
                "export with --format peft"
            )
    architecture_of(trained.base.model.config.model_type)


def write_gguf(path: Path, trained: Trained, adapter: Adapter) -> None:
    """Write the file, with float32 factors.

    Args:
        path: of the new file.
        trained: the run.
        adapter: its update, with one rank for all modules.

    Raises:
        ModelError: llama.cpp has no tensor for a module.
    """
    config = trained.base.model.config
    architecture = architecture_of(config.model_type)
    queries = config.num_attention_heads
    heads = Heads(queries, getattr(config, "num_key_value_heads", None) or queries)
    tensors = to_layout(adapter, architecture, config.num_hidden_layers, heads)
    _write(path, architecture.name, adapter.rank, tensors)


def _write(path: Path, architecture: str, alpha: int, tensors: Mapping[str, Factors]) -> None:
    from gguf import GGUFType, GGUFWriter, Keys

    writer = GGUFWriter(path, architecture)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, alpha)
    for name, factors in tensors.items():
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(factors.a, np.float32))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(factors.b, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
