"""What people and programs send each other of keys: requests, invites, rosters, certificates, keys, signatures."""

import base64
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import IdentityError
from common.identity.documents import invite, request, roster, signatures, signed_json
from common.identity.keys import certificates, expiry, private_keys
from common.identity.project_files import read_project_files
from tests.fuzz.mutations import PLAIN_VALUES, Case, change_bytes, change_tree, write_json
from tests.fuzz.target import Target, check_depth
from tests.helpers.common.identity_parties import NOW, new_node, new_project

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Parsed a serial number")]
SIZE = 2**19
"""An invite of 200 kB, all one text, took 3.6 times its size: it is there as bytes, as text, and as it was signed."""
LAYERS = ["bytes", "tree", "signed", "signed", "signed"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a project in `keys`, and its node in `node`."""
    whole = tmp_path_factory.mktemp("parties")
    new_project(whole / "keys")
    new_node(whole / "keys", whole / "node")
    return whole


def spelt(kind: str, body: object, signature: str) -> bytes:
    return (
        write_json({"body": body, "kind": kind, "signature": signature}, sort_keys=True, separators=(",", ":")) + b"\n"
    )


def signed(kind: str, body: object, key: object) -> bytes:
    """Sign a body as `sign_document` does, whatever it is; what cannot be signed gets a signature of nothing."""
    try:
        plain = json.loads(write_json(body))
        signature = key.sign(signed_json.signed_bytes(kind, plain)).hex()
    except (ValueError, RecursionError):
        signature = "00" * 64
    return spelt(kind, body, signature)


def changed(kind: str, data: bytes, key: object, case: Case) -> bytes:
    """Change a document in one of its layers."""
    layer, whole = case.pick(LAYERS, 1), json.loads(data)
    if layer == "bytes":
        return change_bytes(data, case.changes)
    if layer == "tree":
        return write_json(change_tree(whole, case.changes), sort_keys=True, separators=(",", ":")) + b"\n"
    return signed(kind, change_tree(whole["body"], case.changes), key)


def test_only_an_identity_error_leaves_a_roster(folder: Path) -> None:
    key, data = (
        private_keys.read_signing_key(folder / "keys" / "roster.key"),
        (folder / "keys" / "roster.json").read_bytes(),
    )

    def read(changed: bytes) -> None:
        members = roster.read_roster(changed, key.public_key())
        for member in members.members.values():
            assert member.public_key
        members.current(datetime.now(UTC))

    target = Target(lambda case: changed("roster", data, key, case), read, (IdentityError,), SIZE, [data])
    check_depth(target.fuzz(), errors=15, read=0.02)


def test_only_an_identity_error_leaves_a_request(folder: Path) -> None:
    tls, signing = private_keys.new_tls_key(), private_keys.new_signing_key()
    data = request.make_request("hospital-b", tls, signing)

    def make(case: Case) -> bytes:
        if case.pick(["proof", "document", "document"], 2) == "document":
            return changed("request", data, signing, case)
        der = tls.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        other, public = change_bytes(der, case.changes), signing.public_key().public_bytes_raw()
        proof = tls.sign(request._claim("hospital-b", other, public), request.ec.ECDSA(request.SHA384()))
        return signed_json.sign_document("request", request.JoinRequest("hospital-b", other, public, proof), signing)

    def read(changed: bytes) -> None:
        read = request.read_request(changed)
        assert len(read.fingerprint) == 39
        certificates.key_hash(read.public_key)

    check_depth(Target(make, read, (IdentityError,), SIZE, [data]).fuzz(), errors=12)


def test_only_an_identity_error_leaves_an_invite(folder: Path) -> None:
    key, data = (
        private_keys.read_signing_key(folder / "keys" / "roster.key"),
        (folder / "node" / "hospital-a.invite").read_bytes(),
    )
    tls, signing = (
        private_keys.read_tls_key(folder / "node" / "hospital-a.key"),
        private_keys.read_signing_key(folder / "node" / "hospital-a.sign.key"),
    )
    body = json.loads(data)["body"]

    def make(case: Case) -> bytes:
        part = case.pick(["invite", "invite", "roster", "certificate", "authority"], 2)
        if part == "invite":
            return changed("invite", data, key, case)
        if part == "roster":
            inner = changed("roster", body["signed_roster"].encode(), key, case).decode("utf-8", "surrogateescape")
            return signed("invite", body | {"signed_roster": inner}, key)
        return signed("invite", body | {part: changed_pem(body[part].encode(), case).decode("utf-8", "replace")}, key)

    def read(changed: bytes) -> None:
        document, members = invite.read_invite(changed)
        invite.check_holder(document, members, "hospital-a", tls, signing)

    check_depth(Target(make, read, (IdentityError,), SIZE, [data]).fuzz(), errors=20, read=0.005)


def changed_pem(pem: bytes, case: Case) -> bytes:
    """Change the text of a PEM, or the DER in it."""
    if case.pick([True, False, False, False], 3):
        return change_bytes(pem, case.changes)
    first, *lines, last = pem.splitlines()
    der = change_bytes(base64.b64decode(b"".join(lines)), case.changes)
    return b"\n".join([first, base64.b64encode(der), last, b""])


def test_only_an_identity_error_leaves_a_certificate(folder: Path) -> None:
    pems = [(folder / "keys" / name).read_bytes() for name in ("ca.pem", "server.pem")]
    pems.append(json.loads((folder / "node" / "hospital-a.invite").read_bytes())["body"]["certificate"].encode())
    authority = certificates.from_pem(pems[0])

    def read(pem: bytes) -> None:
        certificate = certificates.from_pem(pem)
        certificates.subject_names(certificate)
        certificates.is_issued_by(certificate, authority)
        certificates.is_issued_by(authority, certificate)
        certificates.key_hash(certificates.public_key(certificate))
        certificates.to_pem(certificate)
        expiry.check_validity("it", certificate, "renew it", NOW)
        expiry.warnings("it", certificate.not_valid_after_utc, "renew it", NOW)

    target = Target(lambda case: changed_pem(case.pick(pems, 0), case), read, (IdentityError,), SIZE, pems)
    check_depth(target.fuzz(), errors=1, read=0.1)


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("node/hospital-a.key", private_keys.read_tls_key),
    ("node/hospital-a.sign.key", private_keys.read_signing_key),
]


@pytest.mark.parametrize(("name", "reader"), READERS)
def test_only_an_identity_error_leaves_a_private_key(name: str, reader: Callable, folder: Path, tmp_path: Path) -> None:
    pem, path = (folder / name).read_bytes(), tmp_path / "key"
    path.touch(0o600)

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        private_keys.to_pem(reader(path))

    target = Target(lambda case: changed_pem(pem, case), read, (IdentityError,), SIZE, [pem])
    check_depth(target.fuzz(), errors=1, read=0.02)


def test_only_an_identity_error_leaves_the_files_of_a_project(folder: Path, tmp_path: Path) -> None:
    keys = shutil.copytree(folder / "keys", tmp_path / "keys")
    whole = [
        (name, (keys / name).read_bytes())
        for name in ("ca.pem", "server.pem", "roster.pub", "receipt.pub", "roster.json")
    ]

    def make(case: Case) -> tuple[str, bytes]:
        name, data = case.pick(whole, 4)
        return name, changed_pem(data, case) if name != "roster.json" else change_bytes(data, case.changes)

    def read(changed: tuple[str, bytes]) -> None:
        for name, data in (*whole, changed):
            (keys / name).write_bytes(data)
        project = read_project_files(keys)
        project.warnings(NOW)
        project.check_server(NOW)
        project.check_authority(NOW)

    check_depth(Target(make, read, (IdentityError,), SIZE, whole).fuzz(), errors=4)


def test_a_signed_reply_of_any_values_is_right_or_wrong() -> None:
    key = private_keys.new_signing_key()
    plain = {"run": "r", "round": 3, "attempt": 1, "phase": 1, "parent": "p", "base": "b", "examples": 5, "loss": 0.5}
    valid = plain | signatures.sign_reply(plain, "00" * 32, "cardio", "a", 3, key)

    default = {"attempt": 1, "phase": 1}

    def make(case: Case) -> dict:
        told = change_tree(valid, case.changes, PLAIN_VALUES)
        return told if isinstance(told, dict) else {}

    def read(told: dict) -> None:
        whole = signatures.is_signed_reply(told, "00" * 32, "cardio", "a", key.public_key())
        assert whole == (repr(sorted((default | told).items())) == repr(sorted(valid.items())))

    Target(make, read, (), SIZE, [valid]).fuzz()
