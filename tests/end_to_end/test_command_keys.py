"""`fedlora keys`, as an operator and the owner of a node type it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.identity import operator as project
from common.identity.credentials import load_node_credentials, load_server_credentials
from common.identity.keys.private_keys import VARIABLE
from tests.helpers.common.identity_parties import days_ago, new_node, new_project
from tests.helpers.end_to_end.command import ROOT, Ended, call, end, refusal, start

VERBS = ("init", "join", "admit", "accept", "show", "revoke", "renew")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)


def keys(*words: object) -> Ended:
    return call("keys", *words)


def done(*words: object) -> str:
    ended = keys(*words)
    assert (ended.status, ended.err) == (0, "")
    return ended.out


def made() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def fingerprint(out: str) -> str:
    (found,) = re.findall(r"fingerprint: ((?:[0-9a-f]{4} ?){8})\n", out)
    return found


def project_with_a_node() -> None:
    done("init", "--project", "cardio", "--server", "fed.example.org")
    done("join", "--name", "hospital-a", "--dir", "node")
    done("admit", "node/hospital-a.request", "--max-rank", 16, "--max-weight", 5000)


def test_a_request_is_found_in_the_folder_of_keys_too() -> None:
    done("init", "--project", "cardio", "--server", "fed.example.org")
    done("join", "--name", "hospital-a")
    assert "keys/hospital-a.invite" in done("admit", "hospital-a.request", "--max-rank", 16, "--max-weight", 5000)


def test_from_a_new_project_to_a_revoked_node() -> None:
    out = done("init", "--project", "cardio", "--server", "fed.example.org", "--server", "10.0.0.5")
    assert "project cardio in keys: server fed.example.org, 10.0.0.5, until 2" in out
    joined = done("join", "--name", "hospital-a", "--dir", "node")
    assert "node/hospital-a.request" in joined
    admitted = done("admit", "node/hospital-a.request", "--max-rank", 16, "--max-weight", 5000)
    assert "keys/hospital-a.invite" in admitted
    assert fingerprint(admitted) == fingerprint(joined)
    command = next(line for line in admitted.splitlines() if line.startswith("fedlora keys accept "))
    assert "node/hospital-a.invite is confirmed" in done(
        *command.replace(" hosp", " keys/hosp").split()[2:], "--dir", "node"
    )
    assert load_node_credentials(Path("node"), "hospital-a").servers == ("fed.example.org", "10.0.0.5")
    assert re.search(r"roster version 2\n.*\nhospital-a +16 +5000 +20\d\d-\d\d-\d\d current\n", done("show"))
    assert "roster version 3" in done("revoke", "hospital-a")
    assert re.search(r"roster version 3\n.*\nhospital-a +16 +5000 +20\d\d-\d\d-\d\d revoked\n", done("show"))
    assert load_server_credentials(Path("keys")).roster.member("hospital-a").revoked


def test_show_tells_what_there_is() -> None:
    done("init", "--project", "cardio", "--server", "fed.example.org", "--dir", "other")
    first, known, second, third, *members = done("show", "--dir", "other").splitlines()
    assert re.fullmatch(r"fingerprint of project cardio, .*: ([0-9a-f]{4} ){7}[0-9a-f]{4}", known)
    assert re.fullmatch(r"project cardio, authority until 20\d\d-\d\d-\d\d", first)
    assert re.fullmatch(r"server fed\.example\.org, until 20\d\d-\d\d-\d\d", second)
    assert third == "roster version 1"
    assert len(members) == 1


def test_show_warns_and_renew_mends() -> None:
    operator = new_project(Path("keys"), days_ago(340))
    new_node(operator, Path("node"), now=days_ago(340))
    project.renew_server(operator, days_ago(85))
    warned = keys("show")
    assert warned.status == 0
    commands = re.findall(r"run: fedlora (keys renew.*?--dir keys)", warned.err)
    assert commands == ["keys renew --dir keys", "keys renew hospital-a --dir keys"]
    assert "restart the server, nodes change nothing" in done(*commands[0].split()[1:])
    assert "keys/hospital-a.invite" in done(*commands[1].split()[1:])
    assert keys("show").err == ""


def test_show_works_after_the_end() -> None:
    new_node(new_project(Path("keys"), days_ago(400)), Path("node"), now=days_ago(400))
    shown = keys("show")
    assert shown.status == 0
    assert "warning: the server's certificate expired" in shown.err
    assert shown.out.endswith("expired\n")


def test_a_passphrase_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "correct horse")
    project_with_a_node()
    before = made()
    assert all(b"ENCRYPTED" in data for name, data in before.items() if name.endswith(".key"))
    for wrong in ("", "wrong"):
        monkeypatch.setenv(VARIABLE, wrong)
        assert VARIABLE in refusal(keys("revoke", "hospital-a"))
    monkeypatch.delenv(VARIABLE)
    assert "current" in done("show")
    assert made() == before


@pytest.mark.parametrize("name", ["../x", "a/b", "", "ca", "a b"])
def test_a_bad_node_name_is_refused(name: str) -> None:
    assert repr(name) in refusal(keys("join", "--name", name))
    assert made() == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("init", "--project", "a/b", "--server", "fed"), "project name 'a/b'"),
        (("init", "--project", "a", "--server", "fed:9092"), "server name 'fed:9092'"),
        (("init", "--project", "a", "--server", "fed"), "keys: contains files"),
        (("join", "--name", "hospital-a", "--dir", "node"), "node/hospital-a.request already exists"),
        (("admit", "no.request", "--max-rank", "1", "--max-weight", "1"), "no.request"),
        (("admit", "keys/ca.pem", "--max-rank", "1", "--max-weight", "1"), "keys/ca.pem: is not a complete request"),
        (("admit", "keys/hospital-a.invite", "--max-rank", "1", "--max-weight", "1"), "is not a complete request"),
        (("admit", "node/hospital-a.request", "--max-rank", "1", "--max-weight", "1"), "already in the roster"),
        (("revoke", "hospital-b"), "'hospital-b' is not a member of project cardio; did you mean 'hospital-a'"),
        (("revoke", "../x"), "'../x' is not a member"),
        (("renew", "hospital-b"), "is not a member"),
        (("renew", "--dir", "nowhere"), "nowhere: does not exist"),
        (("show", "--dir", "node"), "node/ca.pem: does not exist"),
        (("show", "--dir", "keys/ca.pem"), "not a folder"),
    ],
)
def test_bad_input_ends_with_2_and_changes_nothing(words: tuple[str, ...], said: str) -> None:
    project_with_a_node()
    before = made()
    assert said in refusal(keys(*words))
    assert made() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("admit", "node/b.request", "--max-rank", "0", "--max-weight", "1"), "--max-rank"),
        (("admit", "node/b.request", "--max-rank", "1", "--max-weight", "0"), "--max-weight"),
        (("admit", "node/b.request", "--max-rank", "1"), "--max-weight"),
        (("init", "--project", "a"), "--server"),
        (("join",), "--name"),
        (("revoke",), "NAME"),
        (("unknown",), "unknown"),
    ],
)
def test_a_wrong_word_ends_with_2(words: tuple[str, ...], said: str) -> None:
    done("init", "--project", "cardio", "--server", "fed")
    done("join", "--name", "b", "--dir", "node")
    before = made()
    ended = keys(*words)
    assert ended.status == 2
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert made() == before


def test_an_open_key_is_refused_with_the_command_that_mends_it() -> None:
    project_with_a_node()
    Path("keys/ca.key").chmod(0o640)
    assert "chmod 600 keys/ca.key" in refusal(keys("revoke", "hospital-a"))
    Path("keys").chmod(0o755)
    assert "chmod 700 keys" in refusal(keys("show"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb: str) -> None:
    shown = keys(verb, "--help")
    assert shown.status == 0
    assert "--dir" in shown.out


def test_in_a_process_of_its_own() -> None:
    project_with_a_node()
    ended = end(start("keys", "show"))
    assert (ended.status, ended.err, ended.out) == (0, "", done("show"))
    refused = refusal(end(start("keys", "revoke", "nobody")))
    assert refused.startswith("error: 'nobody'")


def test_help_starts_without_heavy_libraries() -> None:
    program = (
        "import sys; sys.argv = ['fedlora', *sys.argv[1:]]; import fedlora\n"
        "try: fedlora.main()\n"
        "finally: print(sorted({'torch', 'cryptography', 'pydantic', 'flwr', 'numpy'} & sys.modules.keys()))"
    )

    def loaded(*words: str) -> str:
        command = [sys.executable, "-c", program, *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()[-1]

    assert loaded("keys", "--help") == "[]"
    assert loaded("keys", "show", "--dir", "nowhere") == "['cryptography', 'pydantic']"
