"""Requirements of tests of real models and public data, and whether they are met."""

from importlib.util import find_spec

import pytest

from tests.helpers.end_to_end.command import ROOT

FOLDER = "../shared/data"
"""Of public data sets, relative to the repository."""


def needs_data(*names):
    """Skips a test where one of these data sets is absent."""
    absent = [name for name in names if not (ROOT / FOLDER / name).is_dir()]
    return pytest.mark.skipif(bool(absent), reason=f"{FOLDER} lacks {', '.join(absent)}")


def needs_packages(*names):
    """Skips a test where one of these packages is not installed."""
    absent = [name for name in names if find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")
