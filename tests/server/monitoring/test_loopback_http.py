"""The loopback server as a client meets it: three paths, two methods, one host, and nothing else."""

import http.client
import json
import socket
from contextlib import contextmanager
from threading import Thread

import pytest

from common.errors import TransportError
from server.monitoring.live_page import POLICY, answers_of
from server.monitoring.loopback_http import LoopbackServer
from tests.helpers.common.hostile_texts import EVIL
from tests.server.monitoring.test_status_view import NODE, STATUS


@contextmanager
def serving(folder):
    """Yield the port of the page of the run in a folder; its paths begin with /token/."""
    answers = {f"/token/{name}": answer for name, answer in answers_of(folder, "demo: first").items()}
    with LoopbackServer(0, answers, POLICY) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(10)


def ask(port, path, method="GET", **headers):
    """Return status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": f"127.0.0.1:{port}"} | headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps(STATUS))
    (tmp_path / "report.html").write_text("<p>the report</p>")
    (tmp_path / "config.toml").write_text("secret = 1")
    return tmp_path


def test_page_state_and_report_are_served_and_nothing_else(folder):
    with serving(folder) as port:
        assert b"demo: first" in ask(port, "/token/")[2]
        assert ask(port, "/token/report.html")[2] == b"<p>the report</p>"
        state = json.loads(ask(port, "/token/state.json")[2])
        assert state["progress"] == "round 3/10: training, 1 of 2 nodes"
        assert state["nodes"][0][:2] == ["ada", "8"]
        assert state["refusals"] == ["eve: policy, 2 times, last in round 3"]
        for path in (
            "/",
            "/token",
            "/token/config.toml",
            "/token/../config.toml",
            "/token/report.html?",
            "/state.json",
        ):
            assert ask(port, path)[0] == 404
        for path in ("/token/%2e%2e/config.toml", "/token/state.json/", "/TOKEN/", "/token/report.html%00"):
            assert ask(port, path)[0] == 404


@pytest.mark.parametrize("path", ["/token/", "/token/state.json", "/token/report.html", "/nothing"])
def test_every_answer_keeps_browsers_from_guessing_storing_and_loading(folder, path):
    with serving(folder) as port:
        _, headers, content = ask(port, path)
        status, same, nothing = ask(port, path, "HEAD")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "unsafe-inline" not in headers["Content-Security-Policy"].partition("script-src")[2]
    assert headers["Content-Type"].endswith("charset=utf-8")
    assert "Python" not in headers["Server"]
    assert not {name for name in headers if name.startswith("Access-Control")}
    assert (nothing, same["Content-Length"]) == (b"", str(len(content)))
    assert status == (404 if path == "/nothing" else 200)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "127.0.0.1@evil", "", "::1"]
)
def test_another_host_is_refused(folder, host):
    with serving(folder) as port:
        status, _, content = ask(port, "/token/state.json", Host=host)
        assert (status, content) == (421, b"Misdirected Request")
        assert ask(port, "/token/state.json", Host="localhost:9")[0] == 200  # control: a forwarded port


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "<script>"])
def test_other_methods_are_refused(folder, method):
    with serving(folder) as port:
        status, headers, content = ask(port, "/token/", method)
        assert (status, headers["Allow"], content) == (405, "GET, HEAD", b"Method Not Allowed")


def test_what_is_no_request_is_refused_without_an_echo_or_a_traceback(folder, capfd):
    with serving(folder) as port:
        for data in (
            b"nonsense <script>\r\n\r\n",
            b"GET /token/ HTTP/1.1\r\n\r\n",
            b"GET " + b"a" * 70_000,
            b"\x16\x03\x01",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
            assert b"script" not in answer.partition(b"\r\n\r\n")[2]
            assert b"<p>" not in answer
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:  # who hangs up at once
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            connection.sendall(b"GET /token/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ask(port, "/token/")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_report_that_is_a_link_or_missing_is_not_there(folder):
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to("/etc/hostname")
    with serving(folder) as port:
        assert ask(port, "/token/report.html")[0] == 404
        (folder / "report.html").unlink()
        assert ask(port, "/token/report.html")[0] == 404
        assert json.loads(ask(port, "/token/state.json")[2])["report"] == ""


def test_a_run_that_has_not_begun_or_a_broken_status_is_told(tmp_path):
    with serving(tmp_path) as port:
        assert "has not begun" in json.loads(ask(port, "/token/state.json")[2])["progress"]
        (tmp_path / "status.json").write_text("{")
        assert "status.json is not" in json.loads(ask(port, "/token/state.json")[2])["progress"]


def test_a_server_that_is_gone_is_told_with_the_time_of_its_last_word(folder):
    with serving(folder) as port:
        assert "No news since 2026-11-24 11:59:59 UTC" in json.loads(ask(port, "/token/state.json")[2])["lost"]
        (folder / "status.json").write_text(json.dumps(STATUS | {"phase": "finished"}))
        assert json.loads(ask(port, "/token/state.json")[2])["lost"] == ""  # control: its end was its last word


def test_the_state_of_hostile_nodes_is_json_in_ascii(folder):
    nodes = [NODE | {"last_seen": None, "name": text, "reason": text} for text in EVIL if text.isprintable()]
    (folder / "status.json").write_text(json.dumps(STATUS | {"nodes": nodes}))
    with serving(folder) as port:
        content = ask(port, "/token/state.json")[2]
    assert content.isascii()
    assert [row[0] for row in json.loads(content)["nodes"]] == [node["name"] for node in nodes]


def test_a_port_that_is_taken_is_an_error_with_a_remedy(folder):
    with serving(folder) as port, pytest.raises(TransportError, match=f"--port {port}: .*in use; choose another port"):
        LoopbackServer(port, {}, POLICY)
