"""The limit of open files is raised to what the system allows."""

import resource

import pytest

from server.transport.listener import allow_many, for_connections


@pytest.fixture
def limits():
    """The limits as they were, which come back."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_becomes_the_hard_one(limits):
    soft, hard = limits
    lower = min(soft, 256)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    assert allow_many() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    assert allow_many() == hard


@pytest.mark.parametrize(("soft", "connections"), [(1024, 768), (resource.RLIM_INFINITY, 10**6), (2**30, 10**6)])
def test_connections_leave_some_for_files(monkeypatch, soft, connections):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))
    assert for_connections() == connections


def test_where_there_is_no_hard_limit_nothing_changes(limits, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda which, values: pytest.fail(f"{values} was set"))
    assert allow_many() == 256
