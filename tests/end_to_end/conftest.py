"""The run that nothing disturbs, with which others are compared; it is made once, and not to be changed."""

import pytest

from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """Return the project of a finished run of the honest nodes."""
    project = NumpyProject(tmp_path_factory.mktemp("undisturbed"))
    assert project.whole_run(HONEST).status == 0
    return project
