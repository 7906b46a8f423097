"""Adapters to serve, and servers as processes."""

import hashlib
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from client.model.lora import adaptable_shapes
from common.adapters.adapter import Adapter, Factors
from common.huggingface.peft_folder import write_peft_folder
from tests.helpers.end_to_end.command import start


def random_adapter(base, part, rank, seed):
    """Return an adapter on the modules whose names contain this part, large enough to change what is written."""
    random = np.random.default_rng(seed)
    return Adapter(
        {
            name: Factors(
                random.standard_normal((rank, k), np.float32), random.standard_normal((d, rank), np.float32) / 4
            )
            for name, (d, k) in adaptable_shapes(base.model).items()
            if part in name
        }
    )


def peft_folder(folder, base, part, rank, seed):
    """Write a random adapter as a PEFT folder."""
    write_peft_folder(folder, random_adapter(base, part, rank, seed), (), str(base.folder), "causal-lm")
    return folder


def base_hash(base):
    """Return the hash of all tensors of a loaded base."""
    digest = hashlib.sha256()
    for name, tensor in sorted(base.model.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def served(log: Path, *words):
    """Run `fedlora serve WORDS` on a free port, and give its process and URL; it ends with the block."""
    with log.open("w") as errors:
        process = start("serve", *words, "--port", "0", log=errors)
        try:
            first = process.stdout.readline()
            found = re.match(r"serving at (http://\S+)/v1\n", first)
            assert found, (first, log.read_text())
            yield process, found[1]
        finally:
            process.terminate()
            process.communicate(timeout=60)
