"""Finished runs that several tests look at and none changes; and a server with one node."""

from functools import cache
from pathlib import Path

import pytest

from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server
from tests.helpers.simulations.runs import run_tiny

BRIEF = ("train.rounds=2", "train.steps=6", "train.lr=3e-2", "data.test_rows=20", "workers=1")
LEARNING = ("train.rounds=3", "train.steps=25")
LANGUAGE = ("data.task=causal-lm", "clients.partition=iid")
ANSWERS = ("data.task=seq2seq", "train.rounds=3", "train.steps=25", "train.lr=2e-2")
RUNS = {
    "bert": ("base.path=tiny:bert", "lora.targets=all-linear", *LEARNING),
    "roberta": ("base.path=tiny:roberta",),
    "deberta": ("base.path=tiny:deberta",),
    "gpt2 classes": ("base.path=tiny:gpt2",),
    "gpt2": ("base.path=tiny:gpt2", "lora.targets=all-linear", *LANGUAGE),
    "gpt2 words": ("base.path=tiny:gpt2", "lora.targets=['wte', 'c_attn']", *LANGUAGE),
    "llama": ("base.path=tiny:llama", "lora.targets=['q_proj', 'v_proj', 'embed_tokens']", *LANGUAGE, *LEARNING),
}
WRITERS = {
    kind: (f"base.path=tiny:{kind}", "lora.targets=all-linear", "clients.partition=iid", *ANSWERS)
    for kind in ("t5", "bart")
}
"""Runs of encoders with decoders."""


@pytest.fixture(scope="session")
def run_of(tmp_path_factory):
    """Return the function from a key of RUNS or WRITERS to the folder of that run, made at the first call."""

    @cache
    def run(kind: str) -> Path:
        return run_tiny(tmp_path_factory.mktemp("runs"), *BRIEF, *{**RUNS, **WRITERS}[kind])

    return run


@pytest.fixture
def server(tmp_path):
    """Return a server that knows one node, which has rows of the toy corpus."""
    return Server(write_node(tmp_path))
