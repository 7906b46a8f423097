"""The limit of open files is raised to what the system allows."""

import resource

import pytest

from server.open_files import allow_many


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


def test_where_there_is_no_hard_limit_nothing_changes(limits, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", lambda which, values: pytest.fail(f"{values} was set"))
    assert allow_many() == 256
