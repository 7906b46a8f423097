"""Processes of a pool whose parent was killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.helpers.end_to_end.command import ROOT

PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from simulations.workers import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), {begin}) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""


def is_there(process):
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


@pytest.mark.parametrize(("begin", "stays"), [("end_with_parent", False), ("None", True)])  # control: without it
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_they_end_with_it(begin, stays, number, tmp_path):
    (tmp_path / "parent.py").write_text(PARENT.format(begin=begin))
    command = [sys.executable, str(tmp_path / "parent.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        worker = int(parent.stdout.readline())
        assert is_there(worker)
        parent.send_signal(number)
        parent.wait(10)
        until = time.monotonic() + (1 if stays else 10)
        while is_there(worker) and time.monotonic() < until:
            time.sleep(0.02)
        found = is_there(worker)
        if found:
            os.kill(worker, signal.SIGKILL)
    assert found == stays
