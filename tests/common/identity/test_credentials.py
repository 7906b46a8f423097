import dataclasses
import re
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import IdentityError
from common.identity import credentials
from common.identity import node as node_keys
from common.identity import operator as project
from common.identity.credentials import load_node_credentials, load_server_credentials
from common.identity.documents import signatures, signed_json
from common.identity.documents.invite import read_invite, sign_invite
from common.identity.keys import folders
from common.identity.keys.private_keys import VARIABLE, new_signing_key, read_signing_key
from tests.common.identity.documents.test_signatures import RECEIPT, STATEMENT
from tests.helpers.common.identity_parties import HOSTS, NOW, days_ago, mutations, new_node, new_project

NODE_FILES = ("hospital-a.key", "hospital-a.sign.key", "hospital-a.invite")
SERVER_FILES = ("ca.pem", "server.pem", "server.key", "receipt.key", "roster.pub", "receipt.pub", "roster.json")


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return new_project(tmp_path / "operator")


@pytest.fixture
def node(operator: Path, tmp_path: Path) -> Path:
    return new_node(operator, tmp_path / "node")


def test_server_and_node_agree(operator: Path, node: Path) -> None:
    server, own = load_server_credentials(operator), load_node_credentials(node, "hospital-a")
    assert (own.project, own.name, own.servers, own.ca_pem) == (server.project, "hospital-a", HOSTS, server.ca_pem)
    assert own.roster == server.roster
    assert own.warnings == server.warnings == ()
    assert (operator / "roster.json").read_bytes() == server.roster_bytes
    signature = signatures.sign(STATEMENT, own.signing_key)
    assert signatures.verify_signature(STATEMENT, signature, server.roster.member("hospital-a").public_key)
    assert signatures.verify_signature(RECEIPT, signatures.sign(RECEIPT, server.receipt_key), own.receipt_public_key)


def test_credentials_do_not_show_private_keys(operator: Path, node: Path) -> None:
    for loaded in (load_server_credentials(operator), load_node_credentials(node, "hospital-a")):
        assert b"PRIVATE KEY" in loaded.key_pem
        assert "PRIVATE" not in repr(loaded)


def test_a_passphrase_opens_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "correct horse")
    operator = new_project(tmp_path / "operator")
    node = new_node(operator, tmp_path / "node")
    assert load_server_credentials(operator).key_pem.startswith(b"-----BEGIN PRIVATE KEY")
    assert load_node_credentials(node, "hospital-a").key_pem.startswith(b"-----BEGIN PRIVATE KEY")
    monkeypatch.delenv(VARIABLE)
    for load in (lambda: load_server_credentials(operator), lambda: load_node_credentials(node, "hospital-a")):
        with pytest.raises(IdentityError, match=f"set {VARIABLE}"):
            load()


def test_a_server_runs_without_the_keys_that_admit(operator: Path) -> None:
    for name in ("ca.key", "roster.key"):
        (operator / name).unlink()
    assert load_server_credentials(operator).project == "cardio"


@pytest.mark.parametrize("name", SERVER_FILES)
@pytest.mark.parametrize("fault", ["missing", "damaged", "open"])
def test_a_servers_wrong_file_is_named(operator: Path, name: str, fault: str) -> None:
    spoil(operator / name, fault)
    if fault == "open" and not name.endswith(".key"):
        assert load_server_credentials(operator)
        return
    with pytest.raises(IdentityError, match=name):
        load_server_credentials(operator)


@pytest.mark.parametrize("name", NODE_FILES)
@pytest.mark.parametrize("fault", ["missing", "damaged", "open"])
def test_a_nodes_wrong_file_is_named(node: Path, name: str, fault: str) -> None:
    spoil(node / name, fault)
    if fault == "open" and not name.endswith(".key"):
        assert load_node_credentials(node, "hospital-a")
        return
    with pytest.raises(IdentityError, match=name):
        load_node_credentials(node, "hospital-a")


def spoil(path: Path, fault: str) -> None:
    {"missing": path.unlink, "damaged": lambda: path.write_bytes(b"x"), "open": lambda: path.chmod(0o644)}[fault]()


@pytest.mark.parametrize("name", ["server.pem", "server.key", "ca.pem", "roster.pub", "roster.json"])
def test_a_file_of_another_project_is_refused(operator: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(new_project(tmp_path / "other") / name, operator)
    with pytest.raises(IdentityError):
        load_server_credentials(operator)


@pytest.mark.parametrize("name", ["hospital-a.key", "hospital-a.sign.key"])
def test_a_key_that_is_not_the_invites_is_refused(node: Path, tmp_path: Path, name: str) -> None:
    node_keys.join(tmp_path / "other", "hospital-a")
    shutil.copy(tmp_path / "other" / name, node)
    with pytest.raises(IdentityError, match=r"hospital-a\.invite: is for other keys"):
        load_node_credentials(node, "hospital-a")


def test_an_invite_for_another_node_is_refused(operator: Path, node: Path) -> None:
    new_node(operator, node, "hospital-b")
    shutil.copy(node / "hospital-b.invite", node / "hospital-a.invite")
    with pytest.raises(IdentityError, match="is for node hospital-b, not for hospital-a"):
        load_node_credentials(node, "hospital-a")


def test_what_to_do_before_there_is_an_invite(tmp_path: Path) -> None:
    folders.ensure(tmp_path / "keys")
    with pytest.raises(IdentityError, match="fedlora keys join --name a"):
        load_node_credentials(tmp_path / "keys", "a")
    node_keys.join(tmp_path / "keys", "a")
    with pytest.raises(IdentityError, match=r"send a\.request"):
        load_node_credentials(tmp_path / "keys", "a")
    with pytest.raises(IdentityError, match="node name"):
        load_node_credentials(tmp_path / "keys", "../a")


@pytest.mark.parametrize(
    ("age", "said"),
    [(59, None), (61, "expires in 2[89] days"), (84, "urgent: .* expires in [56] days"), (90, "expired")],
)
def test_a_servers_certificate_ends(tmp_path: Path, age: int, said: str | None) -> None:
    operator = new_project(tmp_path / "operator", days_ago(age))
    if said == "expired":
        with pytest.raises(IdentityError, match=f"server's certificate expired.*keys renew --dir {operator}"):
            load_server_credentials(operator)
    else:
        check_warnings(load_server_credentials(operator).warnings, said, f"fedlora keys renew --dir {operator}")
    project.renew_server(operator, NOW)
    assert load_server_credentials(operator).warnings == ()


@pytest.mark.parametrize(
    ("age", "said"),
    [(334, None), (336, "expires in 2[89] days"), (359, "urgent: .* expires in [56] days"), (366, "expired")],
)
def test_a_nodes_certificate_ends(tmp_path: Path, age: int, said: str | None) -> None:
    operator = new_project(tmp_path / "operator", days_ago(age))
    node = new_node(operator, tmp_path / "node", now=days_ago(age))
    project.renew_server(operator, NOW)
    check_warnings(load_server_credentials(operator).warnings, said, f"keys renew hospital-a --dir {operator}")
    if said == "expired":
        with pytest.raises(IdentityError, match=r"certificate of hospital-a expired.*keys renew hospital-a"):
            load_node_credentials(node, "hospital-a")
    else:
        check_warnings(load_node_credentials(node, "hospital-a").warnings, said, "keys renew hospital-a")
    shutil.copy(project.renew_node(operator, "hospital-a", NOW), node)
    assert load_node_credentials(node, "hospital-a").warnings == load_server_credentials(operator).warnings == ()


def check_warnings(found: tuple[str, ...], said: str | None, remedy: str) -> None:
    if said is None:
        assert found == ()
        return
    (warning,) = found
    assert re.search(said, warning)
    assert remedy in warning


def test_an_authority_that_ends_is_told(tmp_path: Path) -> None:
    operator = new_project(tmp_path / "operator", days_ago(3640))
    project.renew_server(operator, NOW)
    authority, server = load_server_credentials(operator).warnings
    assert "authority expires in" in authority
    assert "keys init" in authority
    assert "server's certificate expires in" in server


def test_a_clock_that_is_off_is_named(tmp_path: Path) -> None:
    operator = new_project(tmp_path / "operator")
    node = new_node(operator, tmp_path / "node", now=NOW + timedelta(days=1))
    with pytest.raises(IdentityError, match="set the clock"):
        load_node_credentials(node, "hospital-a")
    with pytest.raises(IdentityError, match="set the clock"):
        load_server_credentials(new_project(tmp_path / "later", NOW + timedelta(days=1)))


def test_a_node_pins_the_newest_roster(operator: Path, node: Path, tmp_path: Path) -> None:
    first = load_node_credentials(node, "hospital-a")
    new_node(operator, tmp_path / "b", "hospital-b")
    second = credentials.pin_newer_roster(node, first, (operator / "roster.json").read_bytes())
    assert second.roster.version == first.roster.version + 1
    assert load_node_credentials(node, "hospital-a").roster == second.roster
    with pytest.raises(IdentityError, match="older than version 3"):
        credentials.pin_newer_roster(
            node, second, read_invite((node / "hospital-a.invite").read_bytes())[0].signed_roster.encode()
        )
    assert load_node_credentials(node, "hospital-a").roster == second.roster


def test_a_newer_invite_counts_more_than_the_pinned_roster(operator: Path, node: Path) -> None:
    credentials.pin_newer_roster(
        node, load_node_credentials(node, "hospital-a"), (operator / "roster.json").read_bytes()
    )
    shutil.copy(project.renew_node(operator, "hospital-a", NOW), node)
    assert load_node_credentials(node, "hospital-a").roster.version == 3


def test_two_rosters_of_one_version_are_refused(operator: Path, node: Path, tmp_path: Path) -> None:
    fork = Path(shutil.copytree(operator, tmp_path / "fork"))
    own = load_node_credentials(node, "hospital-a")
    new_node(operator, tmp_path / "b", "hospital-b")
    pinned_now = credentials.pin_newer_roster(node, own, (operator / "roster.json").read_bytes())
    new_node(fork, tmp_path / "c", "hospital-c")
    with pytest.raises(IdentityError, match="two rosters of version 3"):
        credentials.pin_newer_roster(node, pinned_now, (fork / "roster.json").read_bytes())


def test_a_roster_of_another_project_is_not_pinned(node: Path, tmp_path: Path) -> None:
    other, before = new_project(tmp_path / "other"), (node / "hospital-a.roster").read_bytes()
    with pytest.raises(IdentityError, match="signature"):
        credentials.pin_newer_roster(
            node, load_node_credentials(node, "hospital-a"), (other / "roster.json").read_bytes()
        )
    assert (node / "hospital-a.roster").read_bytes() == before


def test_a_revoked_node_is_told(operator: Path, node: Path) -> None:
    own = load_node_credentials(node, "hospital-a")
    project.revoke(operator, "hospital-a", NOW)
    with pytest.raises(IdentityError, match="hospital-a has been revoked since roster version 3"):
        credentials.pin_newer_roster(node, own, (operator / "roster.json").read_bytes())
    with pytest.raises(IdentityError, match="hospital-a has been revoked since roster version 3"):
        load_node_credentials(node, "hospital-a")  # It has kept the roster.


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzzed")
    return new_node(new_project(root / "operator"), root / "node")


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_invite_is_refused(fuzzed: Path, data: st.DataObject) -> None:
    whole = (fuzzed.parent / "operator" / "hospital-a.invite").read_bytes()
    with pytest.raises(IdentityError):
        read_invite(data.draw(mutations(whole)))
    assert read_invite(whole)


FIELDS = ("authority", "certificate", "signed_roster")


@given(data=st.data(), field=st.sampled_from(FIELDS))
def test_an_invite_with_other_content_is_refused_though_signed(fuzzed: Path, data: st.DataObject, field: str) -> None:
    """As a holder of the roster's key could make it."""
    key = read_signing_key(fuzzed.parent / "operator" / "roster.key")
    document, _ = read_invite((fuzzed.parent / "operator" / "hospital-a.invite").read_bytes())
    pem = data.draw(mutations(getattr(document, field).encode())).decode(errors="replace")
    signed = signed_json.sign_document("invite", dataclasses.replace(document, **{field: pem}), key)
    (fuzzed / "hospital-a.invite").write_bytes(signed)
    try:
        loaded = load_node_credentials(fuzzed, "hospital-a")
    except IdentityError:
        return
    assert loaded.certificate_pem or field  # bytes outside the PEM block do not count


def test_an_invite_signed_by_a_stranger_is_refused(fuzzed: Path) -> None:
    document, _ = read_invite((fuzzed.parent / "operator" / "hospital-a.invite").read_bytes())
    with pytest.raises(IdentityError, match="signature of this invite"):
        read_invite(sign_invite(document, new_signing_key()))
