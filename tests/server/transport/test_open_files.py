"""The limit of open files is raised to what the system allows."""

import resource

import pytest

from server.transport.listener import connection_limit, raise_open_file_limit


@pytest.fixture
def limits():
    """Return the limits, and restore them at the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_becomes_the_hard_one(limits):
    soft, hard = limits
    lower = min(soft, 256)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    assert raise_open_file_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert raise_open_file_limit() == hard


@pytest.mark.parametrize(("soft", "connections"), [(1024, 768), (resource.RLIM_INFINITY, 10**6), (2**30, 10**6)])
def test_connections_leave_some_for_files(monkeypatch, soft, connections):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert connection_limit() == connections


def test_where_there_is_no_hard_limit_nothing_changes(limits, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda which, values: pytest.fail(f"{values} was set"))
    assert raise_open_file_limit() == 256
