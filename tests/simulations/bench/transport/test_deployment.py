import pytest

from simulations.bench.transport import deployment
from simulations.bench.transport.deployment import await_nodes, connect_nodes, make_project, serve_grid
from simulations.bench.transport.synthetic import echo
from tests.helpers.end_to_end.transport import until


def test_nodes_are_there_within_the_block_and_gone_after_it(tmp_path):
    make_project(tmp_path, ["ada", "bob"])
    with serve_grid(tmp_path, tmp_path) as grid:
        with connect_nodes(grid, tmp_path, [{"ada": 4}, {"bob": 8}], echo):
            assert sorted(grid.names()) == ["ada", "bob"]
        until(lambda: not grid.names())


def test_nodes_that_do_not_come_are_told(tmp_path, monkeypatch):
    make_project(tmp_path)
    monkeypatch.setattr(deployment, "PATIENCE", 0.1)
    with serve_grid(tmp_path, tmp_path) as grid, pytest.raises(TimeoutError, match=r"0 of 2 nodes connected in 0.1 s"):
        await_nodes(grid, 2)
