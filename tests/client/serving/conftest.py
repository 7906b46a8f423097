"""A run to serve, adapters of other ranks beside it, and one server as a process."""

from types import SimpleNamespace

import pytest

from client.finished.run import load_run
from tests.helpers.client.serving import peft_folder, served


@pytest.fixture(scope="session")
def llama(run_of):
    """Return the run of a tiny Llama, loaded."""
    return load_run(run_of("llama"))


@pytest.fixture(scope="session")
def folders(llama, tmp_path_factory):
    """Return PEFT folders of adapters of several ranks, on several modules."""
    folder = tmp_path_factory.mktemp("adapters")
    kinds = {"small": ("q_proj", 1), "large": ("proj", 16), "head": ("lm_head", 3)}
    return {
        name: peft_folder(folder / name, llama.base, part, rank, seed)
        for seed, (name, (part, rank)) in enumerate(kinds.items())
    }


@pytest.fixture(scope="session")
def server(run_of, folders, llama, tmp_path_factory):
    """Return the URL of a server of that run with two adapters, its process, and the names of its models."""
    words = [word for name in ("small", "large") for word in ("--adapter", f"{name}={folders[name]}")]
    with served(tmp_path_factory.mktemp("server") / "log", run_of("llama"), *words) as (process, url):
        base, run = llama.base.folder.name, run_of("llama").name
        yield SimpleNamespace(url=url, process=process, base=base, run=run)
