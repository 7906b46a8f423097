"""Who may import whom: common <- client, server <- simulations, and where Flower, gRPC and PyTorch may appear."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"common": set(), "client": {"common"}, "server": {"common"}, "simulations": {"common", "client", "server"}}
"""Each room, and the others that it may import."""
PLACES = {
    "flwr": [
        *("*/app.py", "server/strategy.py", "*/grid.py", "server/service.py", "client/answers.py", "client/launch.py"),
        *("common/frames.py", "common/heads.py", "common/flower.py", "simulations/bench/*"),
    ],
    "grpc": ["server/service.py", "server/listener.py", "server/entrance.py", "client/link.py"],
    "torch": ["common/lora.py", "client/*", "simulations/*"],
    "transformers": ["common/lora.py", "client/*", "simulations/*"],
    "peft": ["simulations/bench/peft_engine.py"],
}
"""Libraries that few files may import."""
PRIVATE = "flwr.supercore"
FILES = {str(path.relative_to(ROOT)): path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))}


def imported(source: str) -> Iterator[str]:
    """Every module that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def faults(name: str, source: str) -> set[str]:
    """What the file of this name may not import."""
    modules = set(imported(source))
    rooms = {module.partition(".")[0] for module in modules}
    forbidden = (ROOMS.keys() | {"tests", "fedlora", ""}) - {name.partition("/")[0]} - ROOMS[name.partition("/")[0]]
    found = {library for library, places in PLACES.items() if not any(fnmatch(name, place) for place in places)}
    private = {PRIVATE} if name != "common/flower.py" and any(m.startswith(PRIVATE) for m in modules) else set()
    return (rooms & (forbidden | found)) | private


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_what_it_may(name: str) -> None:
    assert faults(name, FILES[name].read_text(encoding="utf-8")) == set()


def test_there_is_something_to_look_at() -> None:
    assert {"common/flower.py", "client/train.py", "server/rounds.py", "simulations/simulate.py"} <= FILES.keys()
    assert "flwr.app" in imported(FILES["server/strategy.py"].read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("client/train.py", "import server", {"server"}),
        ("client/train.py", "from server.journal import Journal", {"server"}),
        ("server/rounds.py", "import common, client.data as data", {"client"}),
        ("server/rounds.py", "def later():\n    from simulations import grid", {"simulations"}),
        ("common/codec.py", "if True:\n    import client", {"client"}),
        ("simulations/grid.py", "import client, server, common, flwr, torch", set()),
        ("simulations/report.py", "import tests.conftest", {"tests"}),
        ("server/rounds.py", "from . import journal", {""}),
        ("server/rounds.py", "import flwr", {"flwr"}),
        ("server/rounds.py", "from flwr.app import Message", {"flwr"}),
        ("server/strategy.py", "from flwr.app import Message\nimport numpy", set()),
        ("server/strategy.py", "from flwr.supercore.task_identity import TaskIdentity", {PRIVATE}),
        ("server/strategy.py", "from flwr import supercore", {PRIVATE}),
        ("server/algorithms/increments.py", "import torch.nn", {"torch"}),
        ("common/adapter.py", "try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}),
        ("client/app.py", "import grpc", {"grpc"}),
        ("client/use.py", "from peft import PeftModel", {"peft"}),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str, found: set[str]) -> None:
    assert faults(name, source) == found
