import os
import signal
import subprocess
import sys

import pytest

from common.signals import exit_on_signal

SCRIPT = """
import signal, time
from common.signals import exit_on_signal
with exit_on_signal(signal.SIGINT, status=130, message="go on with: this"):
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        time.sleep(60)
"""


def test_a_library_that_swallows_every_exception_does_not_keep_the_process():
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "\ngo on with: this\n")
    assert process.returncode == 130


def test_after_the_block_ctrl_c_is_what_it_was():
    with exit_on_signal(signal.SIGINT, status=130, message="never printed"):
        pass
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
