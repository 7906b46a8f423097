"""The server needs no PyTorch: with it blocked, all of `server` and `common` imports, and a round is aggregated."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.server.runs import fresh, hashes, plan, run

ROOT = Path(__file__).parents[2]
BLOCK = "import sys\nfor name in ('torch', 'transformers', 'peft'): sys.modules[name] = None\n"
IMPORT_ALL = """
from importlib import import_module
from pathlib import Path
names = [".".join(path.with_suffix("").parts) for room in ("common", "server") for path in Path(room).rglob("*.py")]
for name in names:
    import_module(name.removesuffix(".__init__"))
assert "server.transport.flower_messenger" in sys.modules and "server.algorithms.increments" in sys.modules
"""
AGGREGATE = """
from tests.helpers.server.runs import fresh, hashes, plan, run
print(*hashes(run(Path(sys.argv[1]), fresh(), plan(2))))
assert not [name for name in sys.modules if name.partition(".")[0] in ("client", "simulations")]
"""


def python(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the code in a new process, where nothing is imported yet."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_round_is_aggregated_without_pytorch(tmp_path: Path) -> None:
    ended = python(BLOCK + IMPORT_ALL + AGGREGATE, tmp_path / "blocked")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == hashes(run(tmp_path / "here", fresh(), plan(2)))


def test_where_pytorch_is_installed_it_is_not_imported_and_can_be_afterwards() -> None:
    ended = python(f"import sys\n{IMPORT_ALL}assert 'torch' not in sys.modules\nimport torch\ntorch.ones(1)")
    assert ended.returncode == 0, ended.stderr


def test_a_library_that_the_server_uses_would_import_it() -> None:
    ended = python("import sys, tensorboardX\nassert 'torch' not in sys.modules")
    assert "AssertionError" in ended.stderr


def test_one_that_is_imported_already_stays() -> None:
    ended = python("import sys, torch\nimport server.run_folder\nassert sys.modules['torch'] is torch")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("module", ["client.model.lora", "client.training.train", "simulations.grid"])
def test_the_block_holds(module: str) -> None:
    ended = python(BLOCK + f"import {module}")
    assert ended.returncode == 1
    assert "import of torch halted" in ended.stderr
