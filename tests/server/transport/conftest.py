"""A grid over real sockets with real TLS, and nodes for it."""

import pytest

from server.transport.grid import GrpcGrid
from tests.helpers.end_to_end.throwaway_ca import TestAuthority
from tests.helpers.end_to_end.transport import OPEN, RawNode


@pytest.fixture(scope="module")
def authority():
    return TestAuthority()


@pytest.fixture
def start(authority, tmp_path):
    """Start a grid that is closed at the end."""
    grids = []

    def start(guard=OPEN, address="127.0.0.1:0", **settings):
        grids.append(GrpcGrid(address, authority.server(), guard, tmp_path, **settings))
        return grids[-1]

    yield start
    for grid in grids:
        grid.close(finished=True)


@pytest.fixture
def grid(start):
    return start()


@pytest.fixture
def raw(authority, grid):
    """Make nodes that do as they are told."""
    made = []

    def make(name, **settings):
        made.append(RawNode(grid.port, authority.node(name), **settings).admitted())
        return made[-1]

    yield make
    for node in made:
        node.close()
