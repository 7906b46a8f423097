"""Files of settings: recipes, those of nodes and servers, a run's own, and a base's description."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from client.settings import read_node
from common.errors import FedloraError
from common.huggingface.base_file import BaseFile, TargetModule, read_base_file
from common.settings.reader import to_tables
from common.settings.recipe import Recipe
from common.settings.resume import config_hash, read_run_settings
from common.settings.server import ServerFile
from server.settings import read_server
from simulations.recipe import read_recipe
from tests.fuzz.mutations import Case, change_bytes, change_tree
from tests.fuzz.target import Target, check_depth

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SIZE = 2**20
RECIPES = [path.read_bytes() for path in sorted((ROOT / "simulations" / "recipes").glob("*.toml"))]
NODE = (ROOT / "client" / "example.toml").read_bytes()
SERVER = (ROOT / "server" / "example.toml").read_bytes()
MODULES = {
    "q": TargetModule((6, 5)),
    "wte": TargetModule((9, 5), "embedding"),
    "head": TargetModule((3, 6), "last", True),
}
BASE = BaseFile(
    name="tiny", fingerprint="ab" * 32, targets=("q", "wte"), task="classification", labels=("a", "b"), max_length=64,
    modules=MODULES,
)  # fmt: skip
RAW = {
    "deep list": "[" * 5000 + "]" * 5000,
    "a little deep": "[" * 300 + "]" * 300,
    "deep table": "{a = " * 5000 + "1" + "}" * 5000,
    "deep key": "1\n" + ".".join("a" * 5000) + " = 1",
    "section": "1\n[" + ".".join(["deep"] * 300) + "]",
    "long": "1" * 5000,
    "long hex": "0x" + "f" * 5000,
    "infinite": "1e999",
    "inf": "-inf",
    "nan": "nan",
    "date": "2026-11-26T00:00:00Z",
    "day": "2026-11-26",
    "time": "23:59:60",
    "half a pair": r'"\ud800"',
    "control": '"\u0001"',
    "twice": "1\nname = 1\nname = 2",
    "word": "yes",
}
"""TOML that is no value of JSON, or no TOML."""
VALUES = (
    *(
        True,
        0,
        1,
        -1,
        2**31,
        2**63,
        2**64,
        10**300,
        0.0,
        -0.5,
        1e308,
        "",
        "a",
        "auto",
        "all",
        "none",
        "rank",
        "~",
        "~/x",
    ),
    *(
        "~nobody-of-this-name/x",
        "package:.x",
        "package:",
        "package:no.such/x",
        "tiny:bert",
        "/",
        "\0",
        "a\0b",
        "a" * 5000,
    ),
    *("é" * 300, "\x1b[2J\u202e", "host:" + "1" * 4400, "[::1]:1", "h:99999", "(", "(a+)+$", "*", "../x", ":"),
    *([], {}, [[]], [1, "a"], {"a": 1}, {"": {}}, [{}], [0] * 300, {str(number): 1 for number in range(300)}),
    *(f"raw {name}" for name in RAW),
)


def write_toml(tree: Any) -> bytes:
    """Write a tree as TOML, with the raw values in place of their names; one without tables gives nothing."""
    text = tomli_w.dumps(tree) if isinstance(tree, dict) else ""
    for name, raw in RAW.items():
        text = text.replace(f'"raw {name}"', raw)
    return text.encode("utf-8", "surrogatepass")


def changed(valid: list[bytes], case: Case) -> bytes:
    data = case.pick(valid, 0)
    if case.pick(["bytes", "tree", "tree", "tree"], 1) == "bytes":
        return change_bytes(data, case.changes)
    try:
        return write_toml(change_tree(tomllib.loads(data.decode()), case.changes, VALUES))
    except (UnicodeEncodeError, TypeError, ValueError):  # what TOML cannot say at all
        return change_bytes(data, case.changes)


def hashed(kind: type, file: Path) -> None:
    settings = read_run_settings(kind, file)
    config_hash(settings)
    tomli_w.dumps(to_tables(settings))


READERS: dict[str, tuple[Callable[[Path], object], list[bytes]]] = {
    "a recipe": (lambda file: read_recipe(file, []), RECIPES),
    "a recipe's run": (lambda file: hashed(Recipe, file), RECIPES),
    "a node": (read_node, [NODE]),
    "a server": (read_server, [SERVER]),
    "a server's run": (lambda file: hashed(ServerFile, file), [SERVER]),
    "a base": (read_base_file, [tomli_w.dumps(to_tables(BASE)).encode()]),
}


@pytest.mark.parametrize("name", READERS)
def test_only_our_errors_leave_the_settings_of(name: str, tmp_path: Path) -> None:
    (reader, valid), file = READERS[name], tmp_path / "settings.toml"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        reader(file)

    target = Target(lambda case: changed(valid, case), read, (FedloraError,), SIZE, valid)
    check_depth(target.fuzz(), errors=25, read=0.05)


def test_only_our_errors_leave_an_assignment_of_the_command(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(RECIPES[0])
    typed = [b"train.rounds=3", b"base.path=tiny:bert", b"clients.ranks=[4, 8]", b"server.weights=tokens", b"lora={}"]

    def make(case: Case) -> bytes:
        key, _, value = case.pick(typed, 0).partition(b"=")
        kind, _, number = case.changes[0]
        if kind % 2:
            return change_bytes(case.pick(typed, 0), case.changes)
        return key + b"=" + (value, *(raw.encode() for raw in RAW.values()))[number % (len(RAW) + 1)]

    def read(assignment: bytes) -> None:
        read_recipe(file, [assignment.decode("utf-8", "surrogateescape")])

    check_depth(Target(make, read, (FedloraError,), SIZE, typed).fuzz(), errors=15, read=0.05)
