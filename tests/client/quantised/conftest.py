"""Runs on bases in 4 and 8 bits, that several tests look at and none changes."""

from functools import cache

import pytest

from tests.client.conftest import BRIEF, LANGUAGE, LEARNING
from tests.helpers.client.quantised import TASKS, wide_base, without_units
from tests.helpers.simulations.runs import run_tiny


@pytest.fixture(scope="session")
def quantised_run(tmp_path_factory):
    """Return the function from a base and a kind to the folder of a run, made at the first call, in float32."""

    @cache
    def run(base, kind):
        more = LANGUAGE if TASKS[base] == "causal-lm" else LEARNING
        words = (f"base.path={wide_base(base)}", f"base.dtype={kind}", "lora.targets=all-linear", *more)
        with pytest.MonkeyPatch.context() as patch:
            without_units(patch)
            return run_tiny(tmp_path_factory.mktemp("runs"), *BRIEF, *words)

    return run


@pytest.fixture
def float32(monkeypatch):
    """Layers compute in float32."""
    without_units(monkeypatch)
