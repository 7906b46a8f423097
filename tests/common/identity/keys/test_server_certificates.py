"""A project whose server has a certificate that nodes refuse does not start, and `keys renew` mends it."""

from pathlib import Path

import pytest
from cryptography import x509

from common.errors import IdentityError
from common.identity import credentials, project_files
from common.identity import operator as project
from common.identity.keys import certificates, private_keys
from common.identity.keys.certificates import Authority
from tests.helpers.common.identity_parties import NOW, new_project
from tests.helpers.end_to_end.throwaway_ca import TestAuthority

FAULTS = {
    "no subject alternative name": {"names": (), "common_name": "fed.example.org"},
    "ca = FALSE is needed": {"names": [x509.DNSName("fed.example.org")], "ca": True},
    "ca = FALSE": {"names": [x509.DNSName("fed.example.org")], "ca": None},
    "serverAuth is needed": {"names": [x509.DNSName("fed.example.org")], "usage": None},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_with_such_a_certificate_does_not_start(tmp_path: Path, fault: str) -> None:
    folder = new_project(tmp_path / "keys")
    assert credentials.load_server_credentials(folder)  # control
    authority = certificates.from_pem((folder / "ca.pem").read_bytes())
    made = TestAuthority(Authority(authority, private_keys.read_tls_key(folder / "ca.key")))
    odd = made.odd_server(**FAULTS[fault])  # type: ignore[arg-type]
    (folder / "server.pem").write_bytes(odd.certificate_pem)
    (folder / "server.key").write_bytes(odd.key_pem)
    with pytest.raises(IdentityError, match=rf"server\.pem .*{fault}.*fedlora keys renew --dir {folder}"):
        credentials.load_server_credentials(folder)
    project.renew_server(folder, NOW)
    assert credentials.load_server_credentials(folder)
    assert project_files.read_project_files(folder).hosts == ("fed.example.org",)
