"""`fedlora client`, as a user types it, says in less than 5 seconds why it is not connected.

It does so without its base model and its rows, which in these tests are of no use.
"""

import re
import signal
import time

import pytest

from common.identity import operator as project
from tests.helpers.common.identity_parties import NOW, days_ago
from tests.helpers.end_to_end.command import end
from tests.helpers.end_to_end.connect_proxy import ConnectProxy
from tests.helpers.end_to_end.fake_servers import black_hole, closed_port, talker
from tests.helpers.end_to_end.single_node_project import Clinic
from tests.helpers.promptness import seconds_without_load

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("environment")]


@pytest.fixture
def clinic(tmp_path):
    return Clinic(tmp_path / "clinic")


def told(clinic, server, words, *options, rank=8):
    """Return the process after it has printed these words, within the promised time and without a traceback."""
    began, said = time.monotonic(), ""
    process = clinic.start(server, *options, rank=rank)
    while words not in said and (line := process.stderr.readline()):
        said += line
    assert 0 < seconds_without_load(process, began) < 5
    assert words in said
    assert "Traceback" not in said
    return process


def is_final(clinic, server, words, *options, rank=8):
    ended = end(told(clinic, server, words, *options, rank=rank))
    assert (ended.status, ended.out, ended.err) == (2, "", "")


def is_distrusted(clinic, server, words):
    """Check that the node tries on, and ends at once with the flag."""
    process = told(clinic, server, words)
    process.send_signal(signal.SIGTERM)
    assert end(process).status == 0
    is_final(clinic, server, words, "--fail-fast")


def is_tried_again(clinic, server, words):
    process = told(clinic, server, words)
    assert words in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert end(process).status == 0


def test_a_server_of_another_project(clinic, tmp_path):
    with Clinic(tmp_path / "other").server() as port:
        is_distrusted(clinic, f"localhost:{port}", "is not from this project's authority")


@pytest.mark.parametrize(
    ("renewed", "words"), [(100, "has expired by this machine's clock"), (-1, "is not valid yet by this machine's")]
)
def test_a_certificate_that_is_not_valid_by_this_clock(clinic, renewed, words):
    project.renew_server(clinic.keys, days_ago(renewed))
    with clinic.server() as port:
        is_distrusted(clinic, f"localhost:{port}", words)


def test_a_certificate_for_another_name(clinic):
    with clinic.server() as port:
        is_distrusted(clinic, f"127.0.0.1:{port}", "is for other names")


def test_plaintext(clinic):
    with talker(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        is_distrusted(clinic, f"localhost:{port}", "does not speak TLS")


def test_a_node_that_is_not_on_the_roster(clinic):
    (clinic.keys / "roster.json").write_bytes(clinic.empty_roster)
    with clinic.server() as port:
        is_final(clinic, f"localhost:{port}", "is not on the server's roster")


def test_a_revoked_node(clinic):
    project.revoke(clinic.keys, "clinic", NOW)
    with clinic.server() as port:
        is_final(clinic, f"localhost:{port}", "was revoked")


def test_a_rank_that_is_too_high(clinic):
    with clinic.server() as port:
        is_final(clinic, f"localhost:{port}", "is above what the roster allows", rank=9)


def test_no_name_of_a_host(clinic):
    is_final(clinic, "localhost..:8443", "write a host and a port")


@pytest.mark.parametrize("proxy", ["https://user:secret@proxy:3128", "socks5://user:secret@proxy:1080"])
def test_another_kind_of_proxy(clinic, environment, proxy):
    environment.setenv("https_proxy", proxy)
    is_final(clinic, "localhost:8443", "https_proxy is not an HTTP proxy")


def test_nothing_listens(clinic):
    is_tried_again(clinic, f"localhost:{closed_port()}", "nothing listens at localhost")


def test_a_black_hole(clinic):
    with black_hole() as port:
        is_tried_again(clinic, f"127.0.0.1:{port}", "does not answer within 3.5 s")


def test_silence(clinic):
    with talker(b"") as port:
        is_tried_again(clinic, f"localhost:{port}", "does not answer within 3.5 s")


def test_a_name_that_is_not_known(clinic):
    is_tried_again(clinic, "no-such-host.invalid:8443", "cannot be looked up")


@pytest.mark.parametrize(("status", "words"), [(403, "the proxy answers 403"), (407, "requires a user and a password")])
def test_a_proxy_that_refuses(clinic, environment, status, words):
    proxy = ConnectProxy(status=status)
    environment.setenv("https_proxy", proxy.url)
    is_tried_again(clinic, "fed.example.org:8443", words)
    proxy.close()


def test_a_server_that_no_proxy_names_is_reached_past_the_proxy(clinic, environment):
    proxy = ConnectProxy(status=403)
    environment.setenv("https_proxy", proxy.url)
    environment.setenv("no_proxy", "example.org,localhost")
    with clinic.server() as port:
        process = told(clinic, f"localhost:{port}", f"connected to localhost:{port}")
    proxy.close()
    assert (end(process).status, proxy.asked) == (2, [])  # It has nothing to train on.


def test_control_a_node_that_is_let_in_says_so_and_then_reads_its_base_and_rows(clinic):
    with clinic.server() as port:
        process = told(clinic, f"localhost:{port}", f"connected to localhost:{port}")
        ended = end(process)
    assert ended.status == 2
    assert "Traceback" not in ended.err
    assert re.search(r"error: .*(base|rows)", ended.err)
