"""Tests run offline, on one thread a process; the workers of a run share a cache folder that is new."""

import os
import signal

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell starts background jobs with Ctrl-C ignored.


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    here = tmp_path_factory.getbasetemp()
    run = here.parent if "PYTEST_XDIST_WORKER" in os.environ else here
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDLORA_CACHE", str(run / "cache"))
        yield


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without proxies."""
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch
