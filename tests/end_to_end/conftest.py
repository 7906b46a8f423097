"""The run that nothing disturbs, with which others are compared, made once and not to be changed; and no node stays."""

from collections.abc import Iterator

import pytest

from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject, RunningNode


@pytest.fixture(autouse=True)
def _no_node_stays() -> Iterator[None]:
    yield
    RunningNode.stop_all()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Return the project of a finished run of the honest nodes."""
    project = NumpyProject(tmp_path_factory.mktemp("undisturbed"))
    assert project.whole_run(HONEST).status == 0
    return project
