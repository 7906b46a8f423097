import socket

import pytest

from simulations.bench.measure import GateError
from simulations.bench.transport import siege
from simulations.bench.transport.deployment import make_project
from simulations.bench.transport.exchange import NODES
from simulations.bench.transport.siege import SLOW_MEMBER, _stands, compare


@pytest.fixture
def project(tmp_path):
    make_project(tmp_path, [*NODES, SLOW_MEMBER])
    return tmp_path


def test_all_strangers_stand_while_rounds_go_on(project):
    row = compare(project, 4, 2)
    assert row.gate == "4 half-open connections and 2 slow clients stand after the rounds"
    assert row.ours > 0
    assert row.theirs > siege.ALLOWED


def test_strangers_that_were_let_go_prove_nothing(project, monkeypatch):
    monkeypatch.setattr(siege, "_asked_for", lambda pipe: (3, 2))
    with pytest.raises(GateError, match="3 half-open"):
        compare(project, 4, 1)


def test_a_connection_stands_until_the_other_side_speaks_or_hangs_up():
    here, there = socket.socketpair()
    with here, there:
        assert _stands(here)
        there.sendall(b"!")
        assert not _stands(here)
        assert _stands(here)  # read, it is silent again
        there.close()
        assert not _stands(here)
