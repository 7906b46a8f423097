from cryptography import x509

from common.identity.credentials import load_server_credentials
from server.transport.authorization import RosterGuard
from simulations.bench.transport.deployment import make_project
from simulations.bench.transport.idle import measure_with_nodes
from simulations.bench.transport.members import admit_all


def test_idle_nodes_are_there_at_the_end(tmp_path):
    most, there = measure_with_nodes(tmp_path, 3, 0.0)
    assert there == 3
    assert most > 2**20


def test_members_are_admitted_at_once_each_under_its_own_key(tmp_path):
    make_project(tmp_path)
    members = admit_all(tmp_path / "keys", ["ada", "bob"])
    server = load_server_credentials(tmp_path / "keys")
    roster_guard = RosterGuard(tmp_path / "keys", server.roster, server.roster_bytes, "examples")
    keys = server.roster.members
    assert members.keys() == keys.keys() == {"ada", "bob"}
    assert all(roster_guard.authorize_node(name, keys[name].certificate, 1) is None for name in members)
    assert roster_guard.authorize_node("ada", keys["bob"].certificate, 1) == "unknown"
    authority = x509.load_pem_x509_certificate(server.ca_pem)
    for pem in members.values():
        x509.load_pem_x509_certificate(pem.certificate_pem).verify_directly_issued_by(authority)
