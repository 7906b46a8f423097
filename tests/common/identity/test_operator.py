import shutil
from pathlib import Path

import pytest

from common.errors import IdentityError
from common.identity import node as node_keys
from common.identity import operator as project
from common.identity import project_files
from common.identity.documents.invite import read_invite
from common.identity.keys import certificates
from common.identity.keys.private_keys import VARIABLE
from tests.helpers.common.identity_parties import HOSTS, NOW, admit, days_ago, new_node, new_project

PUBLIC = ("ca.pem", "server.pem", "roster.pub", "receipt.pub", "roster.json")
PRIVATE = ("ca.key", "server.key", "roster.key", "receipt.key")


@pytest.fixture
def operator(tmp_path: Path) -> Path:
    return new_project(tmp_path / "operator")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_project(operator: Path) -> None:
    assert set(contents(operator)) == {*PUBLIC, *PRIVATE}
    made = project_files.read_project_files(operator)
    assert (made.roster.project, made.roster.version, made.roster.members) == ("cardio", 1, {})
    assert made.hosts == HOSTS
    assert made.warnings(NOW) == ()


def test_a_second_init_is_refused(operator: Path) -> None:
    before = contents(operator)
    with pytest.raises(IdentityError, match="never overwritten"):
        project.init(operator, "other", ["localhost"], NOW)
    assert contents(operator) == before
    assert [path.name for path in operator.parent.iterdir()] == [operator.name]


@pytest.mark.parametrize(("name", "hosts"), [("a/b", HOSTS), ("a", ()), ("a", ("x y",))])
def test_a_bad_name_makes_nothing(tmp_path: Path, name: str, hosts: tuple[str, ...]) -> None:
    with pytest.raises(IdentityError):
        project.init(tmp_path / "new" / "keys", name, hosts, NOW)
    assert list(tmp_path.iterdir()) == []


def test_an_admitted_node_is_in_the_roster_with_its_limits(operator: Path, tmp_path: Path) -> None:
    request = node_keys.join(tmp_path / "node", "hospital-a")
    path = admit(operator, request)
    assert path == operator / "hospital-a.invite"
    members = project_files.read_project_files(operator).roster
    member = members.member("hospital-a")
    assert (members.version, member.max_rank, member.max_weight, member.revoked) == (2, 16, 5000, False)
    assert member.signing_key == request.signing_key
    assert member.certificate == certificates.key_hash(request.public_key)
    document, invited = read_invite(path.read_bytes())
    assert invited == members
    certificate = certificates.from_pem(document.certificate.encode())
    assert certificates.subject_names(certificate) == ("hospital-a",)
    assert certificate.not_valid_after_utc == member.expires
    assert document.servers == HOSTS


def test_a_name_is_given_once(operator: Path, tmp_path: Path) -> None:
    new_node(operator, tmp_path / "first")
    before = contents(operator)
    again = node_keys.join(tmp_path / "second", "hospital-a")
    with pytest.raises(IdentityError, match="'hospital-a' is already in the roster"):
        admit(operator, again)
    assert contents(operator) == before
    project.revoke(operator, "hospital-a", NOW)
    with pytest.raises(IdentityError, match="already"):
        admit(operator, again)


def test_a_revoked_node_stays_in_the_next_version(operator: Path, tmp_path: Path) -> None:
    new_node(operator, tmp_path / "a")
    new_node(operator, tmp_path / "b", "hospital-b")
    following = project.revoke(operator, "hospital-a", NOW)
    assert project_files.read_project_files(operator).roster == following
    assert following.version == 4
    assert {name: member.state(NOW) for name, member in following.members.items()} == {
        "hospital-a": "revoked",
        "hospital-b": "current",
    }


@pytest.mark.parametrize("act", [project.revoke, project.renew_node])
def test_only_a_member_that_is_not_revoked_can_be_changed(operator: Path, tmp_path: Path, act) -> None:
    new_node(operator, tmp_path / "a")
    with pytest.raises(IdentityError, match="'hospital-b' is not a member of project cardio"):
        act(operator, "hospital-b", NOW)
    with pytest.raises(IdentityError, match="is not a member"):
        act(operator, "../a", NOW)
    project.revoke(operator, "hospital-a", NOW)
    with pytest.raises(IdentityError, match="for good"):
        act(operator, "hospital-a", NOW)
    assert project_files.read_project_files(operator).roster.version == 3


def test_a_servers_new_certificate_changes_one_file(tmp_path: Path) -> None:
    operator = new_project(tmp_path / "operator", days_ago(85))
    before, old = contents(operator), project_files.read_project_files(operator)
    made = project.renew_server(operator, NOW)
    after, new = contents(operator), project_files.read_project_files(operator)
    assert {name for name in before if before[name] != after[name]} == {"server.pem"}
    assert before.keys() == after.keys()
    assert (new.server, new.hosts) == (made, old.hosts)
    assert new.server.public_key() == old.server.public_key()
    assert (new.server.not_valid_after_utc - old.server.not_valid_after_utc).days == 85


def test_a_nodes_new_certificate_is_for_its_old_key(tmp_path: Path) -> None:
    operator = new_project(tmp_path / "operator", days_ago(360))
    new_node(operator, tmp_path / "a", now=days_ago(350))
    old = project_files.read_project_files(operator).roster
    document, invited = read_invite(project.renew_node(operator, "hospital-a", NOW).read_bytes())
    assert invited == project_files.read_project_files(operator).roster
    assert invited.version == old.version + 1
    member, before = invited.member("hospital-a"), old.member("hospital-a")
    assert (member.expires - before.expires).days == 350
    assert (member.certificate, member.signing_key) == (before.certificate, before.signing_key)
    key = certificates.public_key(certificates.from_pem(document.certificate.encode()))
    assert certificates.key_hash(key) == member.certificate


def test_an_expired_authority_signs_no_more(tmp_path: Path) -> None:
    operator = new_project(tmp_path / "operator", days_ago(3651))
    with pytest.raises(IdentityError, match=r"authority expired.*keys init"):
        admit(operator, node_keys.join(tmp_path / "a", "a"))


@pytest.mark.parametrize("name", [*PUBLIC, *PRIVATE])
@pytest.mark.parametrize("fault", ["missing", "damaged", "another's"])
def test_a_wrong_file_is_named_and_nothing_is_signed(operator: Path, tmp_path: Path, name: str, fault: str) -> None:
    other = new_project(tmp_path / "other")
    if fault == "another's":
        shutil.copy(other / name, operator / name)
    else:
        (operator / name).unlink() if fault == "missing" else (operator / name).write_bytes(b"damaged")
    before = contents(operator)
    request = node_keys.join(tmp_path / "a", "a")
    if name in ("server.key", "receipt.key") or (name, fault) == ("receipt.pub", "another's"):
        return  # not needed to admit; `test_credentials` looks at them
    with pytest.raises(IdentityError) as error:
        admit(operator, request)
    assert name in str(error.value) or fault == "another's"
    assert contents(operator) == before


def test_a_wrong_private_key_is_named_by_its_path(operator: Path, tmp_path: Path) -> None:
    (operator / "ca.key").chmod(0o644)
    with pytest.raises(IdentityError, match=rf"{operator}/ca\.key is open to others.*chmod 600"):
        project.revoke(operator, "a", NOW)
    (operator / "ca.key").chmod(0o600)
    operator.chmod(0o755)
    with pytest.raises(IdentityError, match="chmod 700"):
        project.revoke(operator, "a", NOW)


def test_a_project_with_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "correct horse")
    operator = new_project(tmp_path / "operator")
    assert all((operator / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED") for name in PRIVATE)
    request = node_keys.join(tmp_path / "a", "a")
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(IdentityError, match=f"set {VARIABLE}"):
        admit(operator, request)
    assert project_files.read_project_files(operator).roster.version == 1
    monkeypatch.setenv(VARIABLE, "correct horse")
    admit(operator, request)


def test_one_folder_may_hold_a_project_and_a_node(operator: Path) -> None:
    assert admit(operator, node_keys.join(operator, "a")) == operator / "a.invite"
    assert set(contents(operator)) == {*PUBLIC, *PRIVATE, "a.key", "a.sign.key", "a.request", "a.invite"}


def test_joining_twice_is_refused_and_tells_the_fingerprint(tmp_path: Path) -> None:
    made = node_keys.join(tmp_path / "keys", "a")
    before = contents(tmp_path / "keys")
    with pytest.raises(IdentityError, match=made.fingerprint):
        node_keys.join(tmp_path / "keys", "a")
    assert contents(tmp_path / "keys") == before
    assert node_keys.load_request(tmp_path / "keys" / "a.request") == made


@pytest.mark.parametrize("name", ["../x", "a/b", "", "ca"])
def test_a_bad_node_name_makes_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(IdentityError, match="node name"):
        node_keys.join(tmp_path / "keys", name)
    assert list(tmp_path.iterdir()) == []
