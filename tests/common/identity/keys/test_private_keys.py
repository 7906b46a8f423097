from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import IdentityError
from common.identity.keys import files, private_keys

KINDS = [
    (private_keys.new_tls_key, private_keys.read_tls_key),
    (private_keys.new_signing_key, private_keys.read_signing_key),
]


@pytest.mark.parametrize(("make", "read"), KINDS)
def test_a_key_is_made_once_and_read_back(tmp_path: Path, make, read) -> None:
    made = private_keys.load_or_make(tmp_path / "a.key", read, make)
    content = (tmp_path / "a.key").read_bytes()
    kept = private_keys.load_or_make(tmp_path / "a.key", read, make)
    assert made.public_key() == kept.public_key() == read(tmp_path / "a.key").public_key() != make().public_key()
    assert (tmp_path / "a.key").read_bytes() == content
    assert content.startswith(b"-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize(("make", "read"), KINDS)
def test_a_passphrase_encrypts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make, read) -> None:
    monkeypatch.setenv(private_keys.VARIABLE, "correct horse")
    made = private_keys.load_or_make(tmp_path / "a.key", read, make)
    assert (tmp_path / "a.key").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert read(tmp_path / "a.key").public_key() == made.public_key()
    for wrong, said in ("", "is encrypted; set FEDLORA_PASSPHRASE"), ("wrong", "cannot be read.*FEDLORA_PASSPHRASE"):
        monkeypatch.setenv(private_keys.VARIABLE, wrong)
        with pytest.raises(IdentityError, match=f"a.key {said}"):
            read(tmp_path / "a.key")


def test_a_plain_key_is_read_though_there_is_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = private_keys.load_or_make(tmp_path / "a.key", private_keys.read_tls_key, private_keys.new_tls_key)
    monkeypatch.setenv(private_keys.VARIABLE, "correct horse")
    assert private_keys.read_tls_key(tmp_path / "a.key").public_key() == made.public_key()


@pytest.mark.parametrize(
    "content", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", None]
)
def test_what_is_no_such_key_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.key"
    files.create_file(
        path, private_keys.to_pem(ec.generate_private_key(ec.SECP256R1())) if content is None else content
    )
    for _, read in KINDS:
        with pytest.raises(IdentityError, match=r"a\.key"):
            read(path)


@pytest.mark.parametrize("name", ["new_signing_key", "new_tls_key"])
def test_a_key_with_a_flipped_bit_is_refused_or_read(tmp_path: Path, name: str) -> None:
    path, (first, *lines, last) = tmp_path / "a.key", private_keys.to_pem(getattr(private_keys, name)()).splitlines()
    der, read, refused = b64decode(b"".join(lines)), getattr(private_keys, name.replace("new", "read")), 0
    files.create_file(path, b"")
    for bit in range(8 * len(der)):
        changed = bytes(byte ^ (1 << bit % 8) * (place == bit // 8) for place, byte in enumerate(der))
        path.write_bytes(b"\n".join([first, b64encode(changed), last, b""]))
        try:
            read(path)
        except IdentityError:
            refused += 1
    assert 100 < refused <= 8 * len(der)


def test_one_kind_of_key_is_not_taken_for_the_other(tmp_path: Path) -> None:
    files.create_file(tmp_path / "tls.key", private_keys.to_pem(private_keys.new_tls_key()))
    files.create_file(tmp_path / "sign.key", private_keys.to_pem(private_keys.new_signing_key()))
    with pytest.raises(IdentityError, match="does not contain an Ed25519 key"):
        private_keys.read_signing_key(tmp_path / "tls.key")
    with pytest.raises(IdentityError, match="does not contain a P-384 key"):
        private_keys.read_tls_key(tmp_path / "sign.key")


def test_a_plain_pem_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(private_keys.VARIABLE, "correct horse")
    assert private_keys.to_plain_pem(private_keys.new_tls_key()).startswith(b"-----BEGIN PRIVATE KEY-----")
