"""A node connects only to the project that its owner has confirmed."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from common.errors import IdentityError
from common.identity import acceptance, credentials, project_files
from common.identity import node as node_keys
from common.identity import operator as project
from common.identity.credentials import load_node_credentials
from common.identity.documents.fingerprints import as_word, is_typed
from common.identity.documents.invite import read_invite, sign_invite
from common.identity.keys.private_keys import new_signing_key, read_signing_key
from tests.helpers.common.identity_parties import NOW, accept, admit, new_node, new_project

NAME = "hospital-a"


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return new_project(tmp_path / "operator")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Make a project of the same name."""
    return new_project(tmp_path / "stranger")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Make the keys of a node that has no invite."""
    node_keys.join(tmp_path / "node", NAME)
    return tmp_path / "node"


def invite(operator: Path, node: Path) -> Path:
    return admit(operator, node_keys.load_request(node / f"{NAME}.request"))


def fingerprint(operator: Path) -> str:
    return project_files.read_project_files(operator).fingerprint


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def never(_: object) -> bool:
    raise AssertionError("the owner is asked")


def test_an_invite_without_confirmation_does_not_count(operator: Path, node: Path) -> None:
    shutil.copy(invite(operator, node), node)
    shown = fingerprint(operator)
    command = f"fedlora keys accept {node / NAME}.invite --dir {node} --fingerprint {as_word(shown)}"
    with pytest.raises(IdentityError, match="is not confirmed") as refused:
        load_node_credentials(node, NAME)
    assert shown in str(refused.value)
    assert str(refused.value).endswith(command)
    acceptance.accept(node, node / f"{NAME}.invite", as_word(shown), never)
    assert load_node_credentials(node, NAME).project_fingerprint == shown


@pytest.mark.parametrize("spell", [str, str.upper, as_word, lambda it: it.replace(" ", ""), lambda it: f" {it}\t\n"])
def test_a_fingerprint_is_typed_in_any_spelling(operator: Path, node: Path, spell) -> None:  # type: ignore[no-untyped-def]
    acceptance.accept(node, invite(operator, node), spell(fingerprint(operator)), never)
    assert load_node_credentials(node, NAME)


def test_dashes_of_an_editor_are_dashes() -> None:
    whole = "0123 4567 89ab cdef 0123 4567 89ab cdef"
    for separator in ("-", "\u2013", "\u2011", ":", "\u00a0"):
        assert is_typed(whole.replace(" ", separator), whole)
    assert not is_typed(whole[::-1], whole)


@pytest.mark.parametrize("cut", [0, 4, 35, 38])
def test_a_part_of_a_fingerprint_is_refused(operator: Path, node: Path, cut: int) -> None:
    path, before = invite(operator, node), contents(node)
    with pytest.raises(IdentityError, match="give all 32 hexadecimal digits"):
        acceptance.accept(node, path, fingerprint(operator)[:cut], never)
    assert contents(node) == before


@pytest.mark.parametrize("typed", ["one digit off", "another project's", "the request's", "more", "answered no"])
def test_a_wrong_fingerprint_writes_nothing(operator: Path, stranger: Path, node: Path, typed: str) -> None:
    path, before, right = invite(operator, node), contents(node), fingerprint(operator)
    wrong = {
        "one digit off": ("1" if right[0] == "0" else "0") + right[1:],
        "another project's": fingerprint(stranger),
        "the request's": node_keys.load_request(node / f"{NAME}.request").fingerprint,
        "more": right + "0",
        "answered no": None,
    }[typed]
    with pytest.raises(IdentityError):
        acceptance.accept(node, path, wrong, lambda _: False)
    assert contents(node) == before


def test_the_owner_is_asked_where_nothing_is_typed(operator: Path, node: Path) -> None:
    asked = []
    acceptance.accept(node, invite(operator, node), None, lambda it: bool(asked.append(it) or True))
    (shown,) = asked
    assert shown.project_fingerprint == fingerprint(operator)
    assert contents(node).keys() >= {f"{NAME}.invite", f"{NAME}.project", f"{NAME}.roster"}


def test_a_renewed_invite_needs_no_new_confirmation(operator: Path, node: Path) -> None:
    accept(node, invite(operator, node))
    renewed = project.renew_node(operator, NAME, NOW)
    acceptance.accept(node, renewed, None, never)
    assert load_node_credentials(node, NAME).roster.version == 3
    with pytest.raises(IdentityError, match="is another"):
        acceptance.accept(node, renewed, "0" * 32, never)
    shutil.copy(project.renew_node(operator, NAME, NOW), node)  # as owners did before
    assert load_node_credentials(node, NAME).roster.version == 4


@pytest.mark.parametrize("earlier", [False, True], ids=["confirmed", "pinned by an earlier release"])
def test_the_invite_of_another_project_is_refused_with_both_fingerprints(
    operator: Path, stranger: Path, node: Path, earlier: bool
) -> None:
    accept(node, invite(operator, node))
    if earlier:
        (node / f"{NAME}.project").unlink()
    forged, before = invite(stranger, node), contents(node)
    with pytest.raises(IdentityError) as refused:
        acceptance.accept(node, forged, fingerprint(stranger), never)
    for words in (fingerprint(operator), fingerprint(stranger), "another --dir", f"{node / NAME}.roster"):
        assert words in str(refused.value)
    assert contents(node) == before
    assert load_node_credentials(node, NAME)  # control
    shutil.copy(forged, node)
    with pytest.raises(IdentityError, match=fingerprint(stranger)) as refused:
        load_node_credentials(node, NAME)
    assert earlier or fingerprint(operator) in str(refused.value)


def test_a_node_that_an_earlier_release_pinned_counts_as_confirmed(operator: Path, node: Path) -> None:
    accept(node, invite(operator, node))
    (node / f"{NAME}.project").unlink()
    own = load_node_credentials(node, NAME)
    credentials.pin_newer_roster(node, own, (operator / "roster.json").read_bytes())
    assert (node / f"{NAME}.project").read_text().strip() == fingerprint(operator)
    (node / f"{NAME}.invite").unlink()
    acceptance.accept(node, operator / f"{NAME}.invite", None, never)


@pytest.mark.parametrize("changed", ["authority", "roster_key"])
def test_an_invite_with_another_authority_or_key_is_refused(
    operator: Path, stranger: Path, node: Path, changed: str
) -> None:
    path = invite(operator, node)
    accept(node, path)
    document, _ = read_invite(path.read_bytes())
    theirs, _ = read_invite(invite(stranger, node).read_bytes())
    forged = dataclasses.replace(document, **{changed: getattr(theirs, changed)})  # type: ignore[arg-type]
    for key in (new_signing_key(), read_signing_key(stranger / "roster.key")):
        path.write_bytes(sign_invite(forged, key))
        with pytest.raises(IdentityError):
            acceptance.accept(node, path, forged.project_fingerprint, never)


def test_the_holder_of_the_roster_key_cannot_change_the_authority(operator: Path, stranger: Path, node: Path) -> None:
    accept(node, invite(operator, node))
    document, _ = read_invite((operator / f"{NAME}.invite").read_bytes())
    theirs, _ = read_invite(invite(stranger, node).read_bytes())
    forged = dataclasses.replace(document, authority=theirs.authority, certificate=theirs.certificate)
    (node / f"{NAME}.invite").write_bytes(sign_invite(forged, read_signing_key(operator / "roster.key")))
    with pytest.raises(IdentityError, match="belongs to the project with fingerprint"):
        load_node_credentials(node, NAME)


def test_the_fingerprint_is_of_name_authority_and_roster_key(operator: Path, stranger: Path) -> None:
    before = fingerprint(operator)
    project.renew_server(operator, NOW)
    assert fingerprint(operator) == before
    assert fingerprint(stranger) != before
    for name in ("ca.pem", "server.pem"):
        shutil.copy(stranger / name, operator)
    assert fingerprint(operator) not in (before, fingerprint(stranger))


def test_an_invite_for_other_keys_is_refused(operator: Path, node: Path, tmp_path: Path) -> None:
    other = new_node(operator, tmp_path / "other", "hospital-b")
    with pytest.raises(IdentityError, match=r"hospital-b\.key does not exist"):
        acceptance.accept(node, other / "hospital-b.invite", fingerprint(operator), never)
    path = invite(operator, node)
    shutil.rmtree(node)
    node_keys.join(node, NAME)
    with pytest.raises(IdentityError, match="is for other keys"):
        acceptance.accept(node, path, fingerprint(operator), never)


@pytest.mark.parametrize("name", [f"{NAME}.project", f"{NAME}.roster"])
def test_a_damaged_pin_is_refused(operator: Path, node: Path, name: str) -> None:
    accept(node, invite(operator, node))
    (node / name).write_bytes(b"\x1b[2J\xff")
    with pytest.raises(IdentityError) as refused:
        load_node_credentials(node, NAME)
    assert "\x1b" not in str(refused.value)
