"""Whom a node and a server trust: rows S14, S15, S16, S22 and R8, over mutual TLS with a real server process."""

import json
import os
import pty
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.identity import node as node_keys
from common.identity import operator
from common.identity.documents import signed_json
from common.identity.keys import certificates, private_keys
from common.identity.keys.certificates import Authority
from common.identity.project_files import read_project_files
from server.transport.grid import GrpcGrid
from tests.helpers.common.identity_parties import NOW, new_project
from tests.helpers.end_to_end.command import ROOT, call, end, refusal
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.single_node_project import Clinic
from tests.helpers.end_to_end.throwaway_ca import TestAuthority
from tests.helpers.end_to_end.transport import OPEN, until
from tests.helpers.server.exchange import NumpyNode
from tests.helpers.simulations.runs import hashes

pytestmark = pytest.mark.usefixtures("environment")


def fingerprint(keys):
    return read_project_files(keys).fingerprint


def authority_of(keys):
    """Return the project's authority, which makes certificates that `fedlora keys` does not make."""
    made = certificates.from_pem((keys / "ca.pem").read_bytes())
    return TestAuthority(Authority(made, private_keys.read_tls_key(keys / "ca.key")))


@pytest.fixture
def unconfirmed(tmp_path):
    """Return a node that has asked to be admitted, and the keys of a stranger's project of the same name."""
    clinic, stranger = Clinic(tmp_path / "own"), new_project(tmp_path / "stranger")
    for name in ("clinic.invite", "clinic.project", "clinic.roster"):
        (tmp_path / "own" / "node" / name).unlink()
    request = node_keys.load_request(tmp_path / "own" / "node" / "clinic.request")
    operator.admit(stranger, request, 8, 5000, NOW)
    return clinic, stranger


def accept(clinic, keys, *words):
    return call("keys", "accept", keys / "clinic.invite", "--dir", clinic.folder / "node", *words)


def test_found_S14_the_invite_of_a_stranger_that_comes_first_connects_to_nobody(unconfirmed):
    clinic, stranger = unconfirmed
    shutil.copy(stranger / "clinic.invite", clinic.folder / "node")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        message = refusal(end(clinic.start(f"localhost:{listener.getsockname()[1]}")))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert fingerprint(stranger) in message
    assert "run: fedlora keys accept " in message
    refused = refusal(accept(clinic, stranger, "--fingerprint", fingerprint(clinic.keys)))
    assert fingerprint(stranger) in refused
    assert not (clinic.folder / "node" / "clinic.project").exists()
    confirmed = accept(clinic, clinic.keys, "--fingerprint", fingerprint(clinic.keys))  # control
    assert (confirmed.status, confirmed.err) == (0, "")
    with clinic.server() as port:
        process = clinic.start(f"localhost:{port}")
        assert any("connected to localhost" in line for line in process.stderr)
        process.kill()
        process.wait()
    both = refusal(accept(clinic, stranger, "--fingerprint", fingerprint(stranger)))
    assert fingerprint(stranger) in both
    assert fingerprint(clinic.keys) in both


def test_found_S14_without_a_terminal_the_option_is_named(unconfirmed):
    clinic, _ = unconfirmed
    before = sorted((clinic.folder / "node").iterdir())
    path = clinic.keys / "clinic.invite"
    command = [sys.executable, ROOT / "fedlora.py", "keys", "accept", path, "--dir", clinic.folder / "node"]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    assert "give --fingerprint" in ended.stderr
    assert sorted((clinic.folder / "node").iterdir()) == before


@pytest.mark.parametrize(("answer", "status"), [(b"y\n", 0), (b"n\n", 2), (b"\n", 2)])
def test_found_S14_at_a_terminal_the_owner_is_asked(unconfirmed, answer, status):
    clinic, _ = unconfirmed
    path = clinic.keys / "clinic.invite"
    command = [sys.executable, ROOT / "fedlora.py", "keys", "accept", path, "--dir", clinic.folder / "node"]
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    ended = subprocess.run(command, stdin=theirs, capture_output=True, text=True, check=False, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert ended.returncode == status
    assert fingerprint(clinic.keys) in ended.stdout
    assert (clinic.folder / "node" / "clinic.project").exists() == (status == 0)


def test_found_S14_the_operators_commands_print_the_same_fingerprint(tmp_path):
    keys, node = tmp_path / "keys", tmp_path / "node"
    made = call("keys", "init", "--project", "demo", "--server", "localhost", "--dir", keys).out
    joined = call("keys", "join", "--name", "ada", "--dir", node).out
    limits = ("--max-rank", 4, "--max-weight", 9)
    admitted = call("keys", "admit", node / "ada.request", *limits, "--dir", keys).out
    shown = call("keys", "show", "--dir", keys).out
    for out in (made, admitted, shown):
        (line,) = re.findall(r"fingerprint of project demo, .*: (.*)\n", out)
        assert line == fingerprint(keys)
    of_request = re.findall(r"request's fingerprint: (.*)\n", admitted)
    assert of_request == re.findall(r"request's fingerprint: (.*)\n", joined)
    assert of_request != [fingerprint(keys)]


def test_found_S15_a_server_takes_no_older_roster_than_its_run_has_seen(undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    project.admit_new(each.name for each in (*HONEST, NumpyNode("eve", 2)))
    file = project.folder / "keys" / "roster.json"
    older = file.read_bytes()
    operator.revoke(project.folder / "keys", "eve", datetime.now(UTC))
    newest = file.read_bytes()
    with ExitStack() as running:
        with project.serving():
            for each in HONEST:
                running.callback(project.node(each).stop)
            until(lambda: any("round 1 is committed" in line for line in project.log))
        file.write_bytes(older)
        for options in ((), ("--from-round", "0")):
            message = refusal(call("server", project.file, *options))
            assert f"{file}: roster version 5 is older than version 6, seen before" in message
        file.write_bytes(newest)
        with project.serving() as server:
            assert end(server).status == 0
    assert hashes(project.run) == hashes(undisturbed.run)
    file.write_bytes(older)
    assert "older than version 6" in refusal(call("server", project.file))


def test_found_S15_a_roster_that_came_while_the_server_ran_is_seen_too(undisturbed, tmp_path):
    project = NumpyProject(tmp_path)
    project.admit_new(each.name for each in (*HONEST, NumpyNode("eve", 2)))
    keys = project.folder / "keys"
    older = (keys / "roster.json").read_bytes()
    with project.serving() as server, ExitStack() as running:
        running.callback(project.node(HONEST[0]).stop)
        until(lambda: any("node ada is connected" in line for line in project.log))
        operator.revoke(keys, "eve", datetime.now(UTC))
        eve = project.node(NumpyNode("eve", 2))
        running.callback(eve.stop)
        until(lambda: "was revoked" in eve.refusal)
        for each in HONEST[1:]:
            running.callback(project.node(each).stop)
        assert end(server).status == 0
    assert hashes(project.run) == hashes(undisturbed.run)
    fork = Path(shutil.copytree(keys, tmp_path / "fork"))
    (keys / "roster.json").write_bytes(older)
    assert "version 5 is older than version 6" in refusal(call("server", project.file))
    (fork / "roster.json").write_bytes(older)
    operator.revoke(fork, "ada", datetime.now(UTC))
    shutil.copy(fork / "roster.json", keys)
    assert "two rosters of version 6" in refusal(call("server", project.file))
    (project.run / "journal" / "roster.json").write_bytes(b"?")
    assert "journal/roster.json" in refusal(call("server", project.file))


@contextmanager
def plaintext(port):
    """Answer in HTTP, as a captive portal does."""
    with closing(socket.create_server(("127.0.0.1", port))) as listener:

        def answer():
            with suppress(OSError):
                while True:
                    with closing(listener.accept()[0]) as connection:
                        connection.sendall(b"HTTP/1.1 302 Found\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def impostor(project, tls):
    """Serve with another certificate at the project's port."""
    return GrpcGrid(f"localhost:{project.port}", tls, OPEN, project.folder)


LOCALHOST = [x509.DNSName("localhost")]
IMPOSTORS = {
    "S16 host only as common name": ({"names": (), "common_name": "localhost"}, "no subject alternative name"),
    "S16 an authority": ({"names": LOCALHOST, "ca": True}, "ca = FALSE is needed"),
    "R8 another project's": (None, "not from this project's authority"),
    "R8 another name's": ({"names": [x509.DNSName("portal")]}, "is for other names"),
    "R8 expired": (100, "has expired by this machine's clock"),
    "R8 plaintext": (b"", "does not speak TLS"),
}


@contextmanager
def answering(project, kind):
    """Let something answer at the project's port that is not its server."""
    parts, _ = IMPOSTORS[kind]
    authority = authority_of(project.folder / "keys")
    if parts == b"":
        with plaintext(project.port):
            yield
        return
    if parts is None:
        tls = TestAuthority().server()
    else:
        tls = authority.server(days_ago=parts) if isinstance(parts, int) else authority.odd_server(**parts)
    grid = impostor(project, tls)
    yield
    assert grid.get_node_ids() == []
    grid.close(finished=False)


def some_slow(kinds):
    """Return them, all but the first three marked as slow."""
    return [pytest.param(each, marks=[pytest.mark.slow] if at > 2 else []) for at, each in enumerate(kinds)]


@pytest.mark.parametrize("kind", some_slow(IMPOSTORS), ids=lambda kind: kind.replace(" ", "_").replace("'", ""))
def test_found_S16_R8_a_node_connects_when_the_server_takes_the_port_of_what_it_does_not_trust(
    undisturbed, tmp_path, caplog, kind
):
    project = NumpyProject(tmp_path)
    project.admit_new(each.name for each in HONEST)
    with ExitStack() as running:
        with answering(project, kind):
            nodes = [project.node(each) for each in HONEST]
            for node in nodes:
                running.callback(node.stop)
            until(lambda: caplog.text.count(IMPOSTORS[kind][1]) >= len(nodes))
        with project.serving() as server:
            assert end(server).status == 0, project.log
    assert [node.refusal for node in nodes] == ["", "", ""]
    assert hashes(project.run) == hashes(undisturbed.run)
    told = [each.fields["reason"] for each in caplog.records if getattr(each, "event", "") == "untrusted"]
    assert len(told) <= 2 * len(nodes), told  # said once by each; the text of a clock changes with the minute


def test_found_R8_a_node_that_fails_fast_ends_at_once(tmp_path):
    clinic, other = Clinic(tmp_path / "clinic"), Clinic(tmp_path / "other")
    with other.server() as port:
        ended = end(clinic.start(f"localhost:{port}", "--fail-fast"))
    assert "is not from this project's authority" in refusal(ended)
    assert call("client", "client.toml", "--check", "--fail-fast").status == 2  # it needs no server


@pytest.mark.parametrize("kind", [kind for kind in IMPOSTORS if kind.startswith("S16")])
def test_found_S16_a_server_with_such_a_certificate_does_not_start(tmp_path, kind):
    project = NumpyProject(tmp_path)
    keys = project.folder / "keys"
    odd = authority_of(keys).odd_server(**IMPOSTORS[kind][0])
    (keys / "server.pem").write_bytes(odd.certificate_pem)
    (keys / "server.key").write_bytes(odd.key_pem)
    message = refusal(call("server", project.file))
    assert IMPOSTORS[kind][1] in message
    assert f"run: fedlora keys renew --dir {keys}" in message
    assert call("keys", "renew", "--dir", keys).status == 0
    assert project.whole_run(HONEST).status == 0


KEYS = {
    "a key on curve secp521r1": ec.generate_private_key(ec.SECP521R1()),
    "a key on curve secp256r1": ec.generate_private_key(ec.SECP256R1()),
    "an RSA key of 2048 bits": rsa.generate_private_key(65537, 2048),
    "an Ed25519 key": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", KEYS)
def test_found_S22_a_request_with_another_kind_of_key_is_refused_by_its_name(tmp_path, kind):
    keys, node = new_project(tmp_path / "keys"), tmp_path / "node"
    asked = node_keys.join(node, "ada")
    spki = KEYS[kind].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signing_key = private_keys.read_signing_key(node / "ada.sign.key")
    other = signed_json.sign_document("request", replace(asked, tls_key=spki), signing_key)
    (tmp_path / "other.request").write_bytes(other)
    words = ("--max-rank", 4, "--max-weight", 9, "--dir", keys)
    message = refusal(call("keys", "admit", tmp_path / "other.request", *words))
    assert f"contains {kind} for TLS; one on P-384 (secp384r1) is needed" in message
    assert json.loads((keys / "roster.json").read_bytes())["body"]["members"] == {}
    assert call("keys", "admit", node / "ada.request", *words).status == 0  # control
