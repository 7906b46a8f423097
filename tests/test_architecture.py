"""Allowed imports: between packages, between the folders in each, and the places of Flower, gRPC and PyTorch."""

import ast
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from common.settings.tasks import TASKS

ROOT = Path(__file__).parents[1]
PACKAGES = {"common": set(), "client": {"common"}, "server": {"common"}, "simulations": {"common", "client", "server"}}
"""Each package, and the others that it may import."""
PLACES = {
    "flwr": [
        *(
            "*/app.py",
            "*/grid.py",
            "client/launch.py",
            "client/network/link.py",
            "client/network/responder.py",
            "server/transport/service.py",
        ),
        *("server/transport/flower_messenger.py", "common/protocol/flower.py", "common/protocol/frames.py"),
        *("common/protocol/message_header.py", "common/protocol/payload.py", "simulations/bench/*"),
    ],
    "grpc": [
        *("server/transport/service.py", "server/transport/listener.py", "server/transport/authentication.py"),
        "server/transport/door/methods.py",
        *("client/network/link.py", "client/network/step_reports.py", "simulations/bench/transport/hostile_memory.py"),
    ],
    "torch": ["client/*", "simulations/*"],
    "transformers": ["client/*", "simulations/*"],
    "fastapi": ["client/serving/http/*"],
    "uvicorn": ["client/serving/http/launch.py"],
    "peft": [
        "client/exporting/peft_check.py",
        "simulations/architectures/trial.py",
        "simulations/bench/training/peft_engine.py",
    ],
    "sacrebleu": ["client/scoring/*"],
    "nltk": ["client/scoring/*"],
    "rouge_score": ["client/scoring/*"],
    "sklearn": ["client/scoring/*"],
}
"""Libraries that few files may import."""
FLOWER_PRIVATE, ITS_PLACE = "flwr.supercore", "common/protocol/flower.py"

SHARED = (
    *("common/atomic_files", "common/closed_folders", "common/disk_errors", "common/errors", "common/first_fault"),
    *("common/log_format", "common/plain_files", "common/seeding", "common/signals"),
)
"""Files of common that everybody may import."""
INSIDE = {
    "common/adapters": (),
    "common/heads": ("common/adapters", "common/protocol"),
    "common/planning": ("common/adapters", "common/protocol", "common/settings"),
    "common/settings": (),
    "common/report": ("common/settings",),
    "common/huggingface": ("common/adapters", "common/settings"),
    "common/protocol": ("common/huggingface", "common/adapters", "common/settings"),
    "common/identity/keys": (),
    "common/identity/documents": ("common/identity/keys",),
    "common/identity": ("common/identity/documents", "common/identity/keys"),
    "client/data": (),
    "client/data/files": ("client/data",),
    "client/data/chats": ("client/data",),
    "client/data/targets": ("client/data",),
    "client/memory": (),
    "client/model": ("client/data",),
    "client/objectives": ("client/data", "client/data/files", "client/data/chats", "client/data/targets"),
    "client/training": (*("client/objectives", "client/model", "client/data", "client/memory", "client/reports"),),
    "client/questions": (
        *("client/node", "client/policy", "client/reports", "client/training", "client/objectives"),
        *("client/model", "client/data"),
    ),
    "client/results": (
        "client/questions",
        *("client/node", "client/policy", "client/settings", "client/training", "client/objectives"),
        *("client/model", "client/data", "client/memory", "client/network"),
    ),
    "client/finished": (
        "client/results",
        "client/node",
        "client/settings",
        "client/training",
        "client/objectives",
        "client/model",
        "client/data",
        "client/data/files",
        "client/data/chats",
    ),
    "client/hub": ("client/data", "client/data/files"),
    "client/exporting": ("client/finished", "client/hub", "client/model", "client/results"),
    "client/checking": (
        *("client/check", "client/node", "client/settings", "client/objectives", "client/model", "client/data"),
        "client/data/files",
    ),
    "client/columns": (
        *("client/checking", "client/objectives", "client/data", "client/data/chats", "client/data/targets"),
    ),
    "client/serving": ("client/finished", "client/results", "client/settings", "client/model", "client/data"),
    "client/serving/http": (
        *("client/serving", "client/finished", "client/model", "client/data", "client/data/chats"),
    ),
    "client/scoring": (
        *("client/finished", "client/serving", "client/results", "client/training", "client/objectives"),
        *("client/model", "client/data", "client/data/files"),
    ),
    "client/network": ("client/reports",),
    "server/algorithms": (),
    "server/links": (),
    "server/metrics": ("server/algorithms",),
    "server/heads": ("server/algorithms", "server/links"),
    "server/planning": ("server/links",),
    "server/storage": ("server/algorithms",),
    "server/clipping": ("server/algorithms",),
    "server/rounds": (
        *("server/metrics", "server/storage", "server/algorithms", "server/clipping", "server/heads"),
        *("server/planning", "server/links"),
    ),
    "server/farewell": ("server/rounds", "server/storage", "server/links"),
    "server/transport": ("server/transport/door",),
    "server/transport/door": (),
    "server/monitoring": ("server/rounds", "server/transport", "server/settings"),
    "simulations/starting": ("simulations/*", "simulations/results"),
    "simulations/architectures": ("simulations/*",),
    "simulations/corpora": ("simulations/cache", "simulations/corpora/paper"),
    "simulations/corpora/paper": (),
    "simulations/partition": ("simulations/corpora",),
    "simulations/report": (),
    "simulations/results": ("simulations/*", "simulations/corpora"),
    "simulations/results/heads": ("simulations/*", "simulations/results"),
    "simulations/studies": (
        *("simulations/*", "simulations/studies/engine", "simulations/studies/claims"),
        "simulations/studies/claims/accuracy",
    ),
    "simulations/studies/claims/accuracy": ("simulations/studies/engine", "simulations/studies/methods"),
    "simulations/studies/claims": (
        "simulations/studies/claims/accuracy",
        *("simulations/studies/engine", "simulations/studies/methods", "simulations/studies/measures"),
        "simulations/bench",
    ),
    "simulations/studies/engine": ("simulations/*", "simulations/studies/methods", "simulations/results"),
    "simulations/studies/methods": (),
    "simulations/studies/measures": (),
    "simulations/bench/training": ("simulations/bench", "simulations/*"),
    "simulations/bench/transport": ("simulations/bench", "simulations/*"),
    "simulations/bench": ("simulations/*",),
}
"""Each folder, and what of its own package it may import: folders, files right in the package, or `PACKAGE/*`, any."""
ROOTS = {
    "client/settings": (),
    "client/policy": (),
    "client/reports": (),
    "client/flower_node_file": ("client/settings",),
    "client/check": ("client/node", "client/policy"),
    "client/node": ("client/settings", "client/data", "client/data/files", "client/model", "client/objectives"),
    "server/settings": ("server/algorithms", "server/storage"),
    "server/run_folder": ("server/rounds", "server/storage"),
    "server/recompute": (
        "server/heads",
        "server/metrics",
        "server/links",
        "server/rounds",
        "server/storage",
        "server/algorithms",
    ),
    "server/verify": (
        *("server/recompute", "server/rounds", "server/storage", "server/algorithms", "server/planning"),
    ),
    "server/notifications": ("server/rounds", "server/storage", "server/transport"),
    "simulations/cache": (),
}
"""Files right in a package that other files of it import, and what they may; those on top may import everything."""
FILES = {str(path.relative_to(ROOT)): path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))}


def imported(source: str) -> Iterator[str]:
    """Every module that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def faults(name: str, source: str) -> set[str]:
    """Return the packages, libraries and folders that the file of this name imports and may not."""
    modules, package = set(imported(source)), name.partition("/")[0]
    tops = {module.partition(".")[0] for module in modules}
    forbidden = (PACKAGES.keys() | {"tests", "fedlora", ""}) - {package} - PACKAGES[package]
    libraries = {library for library, places in PLACES.items() if not any(fnmatch(name, place) for place in places)}
    private = {FLOWER_PRIVATE} if name != ITS_PLACE and any(m.startswith(FLOWER_PRIVATE) for m in modules) else set()
    return (tops & (forbidden | libraries)) | private | inner_faults(name, modules)


def inner_faults(name: str, modules: set[str]) -> set[str]:
    """Folders, or files right in a package, that a file imports against the arrows inside its package."""
    home, found = place_of(name), set()
    rules = {**INSIDE, **ROOTS}
    for module in modules:
        target = file_of(module)
        if target is None or target.partition("/")[0] != name.partition("/")[0] or home not in rules:
            continue
        there = place_of(target)
        allowed = (home, *SHARED, *rules[home])
        if not any(fnmatch(there, place) and there.count("/") == place.count("/") for place in allowed):
            found.add(there)
    return found


def file_of(module: str) -> str | None:
    """Return the file of a module of ours; None for a name in one, or a module of others."""
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if file in FILES), None)


def place_of(name: str) -> str:
    """Return the folder of a file; for one directly in a package, the file itself without its ending."""
    folder, _, file = name.rpartition("/")
    if file == "__init__.py" or "/" in folder:
        return folder
    return name.removesuffix(".py")


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_what_it_may(name: str) -> None:
    assert faults(name, FILES[name].read_text(encoding="utf-8")) == set()


def task_comparisons(source: str) -> list[str]:
    """Return the names of tasks that a source compares something with."""
    compared = (
        part for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare) for part in ast.walk(node)
    )
    return [each.value for each in compared if isinstance(each, ast.Constant) and each.value in TASKS]


@pytest.mark.parametrize("name", FILES)
def test_no_file_asks_for_a_task_by_name(name: str) -> None:
    assert task_comparisons(FILES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source", ['if task == "causal-lm": pass', 'x = 1 if a.task in ("causal-lm", "other") else 2'])
def test_a_comparison_with_a_task_is_found(source: str) -> None:
    assert task_comparisons(source) == ["causal-lm"]


def test_every_folder_has_its_arrows() -> None:
    folders = {str(Path(name).parent) for name in FILES}
    assert folders - PACKAGES.keys() == INSIDE.keys()
    assert {f"{name}.py" for name in ROOTS} <= FILES.keys()


def moves(source: str) -> bool:
    """Return whether a source gives files other names; `a.replace(b)` does, and the `replace` of a text has two."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    methods = [(call.func.attr, len(call.args)) for call in calls if isinstance(call.func, ast.Attribute)]
    return any(
        name in ("rename", "renames", "hardlink_to", "link") or (name, n) == ("replace", 1) for name, n in methods
    )


def test_one_file_moves_files_into_place() -> None:
    assert [name for name, path in FILES.items() if moves(path.read_text())] == ["common/atomic_files.py"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nos.rename(a, b)", True),
        ("temporary.replace(path)", True),
        ("with b() as file:\n    path.hardlink_to(file)", True),
        ("text.replace('a', 'b')", False),
        ("replace(settings, seed=1)", False),
        ("now.replace(tzinfo=None)", False),
    ],
)
def test_a_move_is_found(source: str, found: bool) -> None:
    assert moves(source) == found


def trusting(source: str) -> list[int]:
    """Return the lines of calls that read a model's folder and do not say that its code is not trusted."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    readers = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"]
    trusts = {call: {word.arg: ast.unparse(word.value) for word in call.keywords} for call in readers}
    return [call.lineno for call, words in trusts.items() if words.get("trust_remote_code") != "False"]


def test_nobody_trusts_the_code_of_a_model() -> None:
    assert {name: lines for name, path in FILES.items() if (lines := trusting(path.read_text()))} == {}
    assert trusting("a.from_pretrained(b)\na.from_pretrained(b, trust_remote_code=c)") == [1, 2]
    assert trusting("a.from_pretrained(b, trust_remote_code=False)") == []


def test_the_arrows_inside_a_package_make_no_circle() -> None:
    below = {place: {other for other in others if other in INSIDE} - {place} for place, others in INSIDE.items()}
    while ends := [place for place, others in below.items() if not others]:
        below = {place: others - {*ends} for place, others in below.items() if place not in ends}
    assert below == {}


def test_a_folder_holds_three_to_eleven_files() -> None:
    counts = Counter(str(Path(name).parent) for name in FILES if not name.endswith("__init__.py"))
    assert {folder: count for folder, count in counts.items() if not 3 <= count <= 11} == {}


def test_there_is_something_to_look_at() -> None:
    assert {"common/protocol/flower.py", "client/training/train.py", "server/rounds/loop.py"} <= FILES.keys()
    assert "flwr.app" in imported(FILES["common/protocol/payload.py"].read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("client/training/train.py", "import server", {"server"}),
        ("client/training/train.py", "from server.storage.journal import Journal", {"server"}),
        ("server/rounds/loop.py", "import common, client.node as node", {"client"}),
        ("server/rounds/loop.py", "def later():\n    from simulations import grid", {"simulations"}),
        ("common/adapters/codec.py", "if True:\n    import client", {"client"}),
        ("simulations/grid.py", "import client, server, common, flwr, torch", set()),
        ("simulations/report/page.py", "import tests.conftest", {"tests"}),
        ("server/rounds/loop.py", "from . import collect", {""}),
        ("server/rounds/loop.py", "import flwr", {"flwr"}),
        ("server/rounds/loop.py", "from flwr.app import Message", {"flwr"}),
        ("server/transport/flower_messenger.py", "from flwr.app import Message\nimport numpy", set()),
        ("server/transport/grid.py", "from flwr.supercore.task_identity import TaskIdentity", {FLOWER_PRIVATE}),
        ("server/transport/grid.py", "from flwr import supercore", {FLOWER_PRIVATE}),
        ("server/algorithms/increments.py", "import torch.nn", {"torch"}),
        ("common/adapters/adapter.py", "try:\n    import torch\nexcept ImportError:\n    pass", {"torch"}),
        ("common/errors.py", "import torch", {"torch"}),
        ("client/app.py", "import grpc", {"grpc"}),
        ("client/finished/run.py", "from peft import PeftModel", {"peft"}),
        ("server/transport/grid.py", "import grpc", {"grpc"}),
    ],
)
def test_a_forbidden_import_is_found(name: str, source: str, found: set[str]) -> None:
    assert faults(name, source) == found


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("server/rounds/loop.py", "from server.transport.grid import GrpcGrid", {"server/transport"}),
        ("server/rounds/loop.py", "from server.transport import grid", {"server/transport"}),
        ("server/rounds/loop.py", "import server.monitoring.console", {"server/monitoring"}),
        ("server/rounds/loop.py", "from server.launch import serve", {"server/launch"}),
        ("server/rounds/loop.py", "from server.storage.journal import Journal", set()),
        ("server/transport/grid.py", "from server.rounds.observer import RunObserver", {"server/rounds"}),
        ("server/algorithms/fedit.py", "from server.storage import journal", {"server/storage"}),
        ("server/run_folder.py", "from server.monitoring.status import Status", {"server/monitoring"}),
        ("client/data/rows.py", "from client.model.lora import Lora", {"client/model"}),
        ("client/data/batches.py", "from client.objectives import OBJECTIVES", {"client/objectives"}),
        ("client/objectives/base.py", "from client.model.lora import Lora", {"client/model"}),
        ("client/network/link.py", "import client.model.base_model", {"client/model"}),
        ("client/policy.py", "from client.node import load_node", {"client/node"}),
        ("client/finished/run.py", "from client.model.lora import Lora", set()),
        ("common/adapters/codec.py", "from common.protocol import frames", {"common/protocol"}),
        ("common/identity/operator.py", "from common.protocol import frames", {"common/protocol"}),
        ("common/identity/keys/disk.py", "from common.identity.documents import names", {"common/identity/documents"}),
        ("common/identity/keys/disk.py", "from common.errors import IdentityError", set()),
        ("simulations/report/page.py", "from simulations.simulate import simulate", {"simulations/simulate"}),
        ("simulations/corpora/toy.py", "from simulations.bench import measure", {"simulations/bench"}),
        ("simulations/cache.py", "from simulations.corpora import toy", {"simulations/corpora"}),
    ],
)
def test_an_arrow_that_runs_back_up_is_found(name: str, source: str, found: set[str]) -> None:
    assert inner_faults(name, set(imported(source))) == found
