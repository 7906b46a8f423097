"""Runs the tests of what fedlora uses of Flower's insides with a newer Flower: `make flower-next`.

The environment stays as it is: the newer Flower lies in a temporary folder that comes first on the path. Where it
cannot be installed, nothing is tested, and the reason is printed.
"""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

NEXT = "1.42.0"
ROOT = Path(__file__).parents[1]
CONTRACTS = (
    *("tests/common/protocol/test_flower.py", "tests/common/protocol/test_frames.py", "tests/server/test_app.py"),
    *("tests/server/transport/test_grid.py", "tests/server/transport/test_flower_messenger.py"),
    *("tests/client/network/test_link.py", "tests/simulations/test_grid.py"),
)
"""The tests that touch Flower's classes."""
PIN = "tests/common/protocol/test_flower.py::test_flower_is_the_release_we_know"
"""Holds the release that the environment has, so it cannot pass here."""


def install(folder: str) -> str:
    """Install the newer Flower into the folder, and return why that failed, or nothing."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, f"flwr=={NEXT}"]
    done = subprocess.run(pip, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["pip failed"])[-1] if done.returncode else ""


def main() -> int:
    """Install, say which Flower is tested, test, and return pytest's exit status."""
    with TemporaryDirectory() as folder:
        if why := install(folder):
            print(f"skipped: flwr {NEXT} cannot be installed ({why})")
            return 0
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([folder, str(ROOT)])}
        shown = "import flwr; print('testing with flwr at', flwr.__file__)"
        for words in (["-c", shown], ["-m", "pytest", "-q", *CONTRACTS, f"--deselect={PIN}"]):
            done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment)
            if done.returncode:
                return done.returncode
    print(f"the contract tests pass with flwr {NEXT}; the environment has {version('flwr')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
