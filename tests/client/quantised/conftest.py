"""Runs on bases in 4 and 8 bits, that several tests look at and none changes."""

from functools import cache

import pytest

from tests.client.conftest import BRIEF, LANGUAGE
from tests.helpers.client.quantised import without_units
from tests.helpers.simulations.runs import run_tiny

RUNS = {
    "llama": ("base.path=tiny:llama", "lora.targets=all-linear", *LANGUAGE),
    "gpt2": ("base.path=tiny:gpt2", "lora.targets=all-linear", *LANGUAGE),
    "bert": ("base.path=tiny:bert", "lora.targets=all-linear"),
}


@pytest.fixture(scope="session")
def quantised_run(tmp_path_factory):
    """Return the function from a base and a kind to the folder of a run, made at the first call, in float32."""

    @cache
    def run(base, kind):
        with pytest.MonkeyPatch.context() as patch:
            without_units(patch)
            return run_tiny(tmp_path_factory.mktemp("runs"), *BRIEF, *RUNS[base], f"base.dtype={kind}")

    return run


@pytest.fixture
def float32(monkeypatch):
    """Layers compute in float32."""
    without_units(monkeypatch)
