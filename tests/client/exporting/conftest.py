"""A run whose keys and values have fewer rows than its rank, and one with more labels than a base has by default."""

import pytest

from tests.client.conftest import BRIEF, LANGUAGE
from tests.helpers.simulations.runs import run_tiny

WIDE = ("base.path=tiny:llama", "lora.targets=['q_proj', 'k_proj', 'v_proj', 'down_proj']", "clients.ranks=[32]")


@pytest.fixture(scope="session")
def wide(tmp_path_factory):
    """Return a run of rank 32 of a tiny Llama, whose keys and values have 16 rows."""
    return run_tiny(tmp_path_factory.mktemp("wide"), *BRIEF, *WIDE, *LANGUAGE)
