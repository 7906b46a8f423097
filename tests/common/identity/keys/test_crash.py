"""A command that is killed before any step on the disk leaves the old state or the new one, and can be repeated."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from common.errors import IdentityError
from common.identity import credentials
from common.identity import node as node_keys
from common.identity import operator as project
from common.identity.project_files import read_project_files
from tests.helpers.common.identity_parties import NOW, admit, days_ago, new_node, new_project

CALLS = ("open", "fsync", "mkdir", "link", "rename", "replace", "unlink")
Act = Callable[[Path], object]


class KilledError(BaseException):
    """An error that no code of ours can catch."""


def kill_at(patch: pytest.MonkeyPatch, step: int) -> list[str]:
    """From this call to the disk on none is made, as after a SIGKILL; returns the calls that were tried."""
    tried: list[str] = []

    def deadly(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            tried.append(name)
            if len(tried) > step:
                raise KilledError
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        patch.setattr(os, name, deadly(name, getattr(os, name)))
    return tried


def state(root: Path) -> dict[str, bytes]:
    """Every file that a reader looks at."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {
        str(path.relative_to(root)): path.read_bytes() for path in paths if ".tmp" not in str(path.relative_to(root))
    }


def init(root: Path) -> None:
    new_project(root / "new" / "keys")


def join(root: Path) -> None:
    node_keys.join(root / "b", "b")


def admit_joined(root: Path) -> None:
    admit(root / "operator", node_keys.load_request(root / "a" / "joined.request"))


def revoke(root: Path) -> None:
    project.revoke(root / "operator", "hospital-a", NOW)


def renew_node(root: Path) -> None:
    project.renew_node(root / "operator", "hospital-a", NOW)


def renew_server(root: Path) -> None:
    project.renew_server(root / "operator", NOW)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project with one member, and a node that waits to be admitted."""
    root = tmp_path_factory.mktemp("before")
    operator = new_project(root / "operator", days_ago(80))
    new_node(operator, root / "a", now=days_ago(70))
    node_keys.join(root / "a", "joined")
    return root


def killed_at(patch: pytest.MonkeyPatch, act: Act, root: Path, step: int) -> bool:
    """Return whether the act was killed, at a step that it has."""
    with patch.context() as context:
        kill_at(context, step)
        with suppress(KilledError):
            act(root)
            return False
    return True


@pytest.mark.parametrize("act", [init, join, admit_joined, revoke, renew_node, renew_server])
def test_a_killed_command_can_be_repeated(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    old, step = state(before), 0
    shutil.copytree(before, tmp_path / "whole")
    act(tmp_path / "whole")
    new_files = state(tmp_path / "whole").keys()
    while killed_at(monkeypatch, act, root := Path(shutil.copytree(before, tmp_path / str(step))), step):
        left = state(root)
        assert {name: left[name] for name in old if name.endswith(".key")} == {
            name: old[name] for name in old if name.endswith(".key")
        }
        check(root)
        with suppress(IdentityError):  # where the kill came after the commit, and the command is made for once
            act(root)
        after = state(root)
        assert after.keys() == new_files
        assert all(after[name] == left[name] for name in left if name.endswith(".key"))
        check(root)
        step += 1
    assert step >= 7


def check(root: Path) -> None:
    """All that can be read is whole, and belongs together."""
    credentials.load_server_credentials(root / "operator")
    if not read_project_files(root / "operator").roster.member("hospital-a").revoked:
        shutil.copy(root / "operator" / "hospital-a.invite", root / "a")
        credentials.load_node_credentials(root / "a", "hospital-a")
    if (root / "new" / "keys").exists():
        credentials.load_server_credentials(root / "new" / "keys")
    if (root / "b" / "b.request").exists():
        node_keys.load_request(root / "b" / "b.request")


@pytest.mark.parametrize(
    ("act", "commit"), [(admit_joined, "joined"), (revoke, "revoked"), (renew_node, "version"), (init, "folder")]
)
def test_one_step_is_the_commit(
    before: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Act, commit: str
) -> None:
    """Before some step nothing has happened, from it on everything has."""

    def happened(root: Path) -> bool:
        members = read_project_files(root / "operator").roster
        return {
            "joined": lambda: "joined" in members.members,
            "revoked": lambda: members.member("hospital-a").revoked,
            "version": lambda: members.version == 3,
            "folder": lambda: (root / "new" / "keys").exists(),
        }[commit]()

    seen, step = [], 0
    while killed_at(monkeypatch, act, root := Path(shutil.copytree(before, tmp_path / str(step))), step):
        seen.append(happened(root))
        step += 1
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


def test_a_private_key_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        tried = kill_at(patch, 1000)
        node_keys.join(tmp_path / "keys", "a")
    one_file = ["open", "fsync", "link", "unlink", "open", "fsync"]
    assert [name for name in tried if name != "mkdir"] == ["open", *one_file * 3]
