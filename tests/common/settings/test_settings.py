"""Settings of a deployment: what a server's file and a node's file may say."""

import pytest

from common.settings.node import NodeFile, Policy
from common.settings.reader import parse_settings, to_tables
from common.settings.server import ServerFile
from tests.helpers.common.recipes import error_of

SERVER = {"project": "cardio", "run": "first", "rounds": 4}
NODE = {"name": "clinic-1", "rank": 4, "base": "base", "data": "rows.csv"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"project": None}, "project is missing; add it"),
        ({"rounds": None}, "rounds is missing; add it"),
        ({"quorum": 0}, "quorum = 0: "),
        ({"deadline": 0}, "deadline = 0: "),
        ({"run": "../x"}, "run = '../x': "),
        ({"listen": "8443"}, "listen = '8443': write HOST:PORT, for example fed.example.org:8443"),
        ({"listen": ""}, "listen = '': write HOST:PORT"),
        ({"server": {"algorihtm": "fedit"}}, "unknown key [server] algorihtm; did you mean 'algorithm'"),
        ({"train": 3}, "train = 3: "),
        ({"cohort": 1}, "cohort = 1 is below quorum = 2, so no round could count; raise cohort"),
    ],
)
def test_a_wrong_server_file_is_told_with_the_remedy(keys, message):
    tables = {key: value for key, value in (SERVER | keys).items() if value is not None}
    assert error_of(tables, ServerFile).startswith(f"r.toml: {message}")


def test_a_cohort_may_be_as_small_as_the_quorum():
    assert parse_settings(ServerFile, SERVER | {"cohort": 2}, "server.toml").cohort == 2


@pytest.mark.parametrize("address", ["fed.example.org:8443", "10.0.0.5:1", "[::1]:65535", "localhost:0"])
def test_an_address_is_host_and_port(address):
    assert parse_settings(NodeFile, NODE | {"server": address}, "client.toml").server == address


@pytest.mark.parametrize("address", ["fed.example.org", "host:", ":1", "host:65536", "host:x", "https://host:1", "h:²"])
def test_anything_else_is_no_address(address):
    assert error_of(NODE | {"server": address}, NodeFile).startswith(f"r.toml: server = {address!r}: write HOST:PORT")


def test_a_node_allows_anything_but_gradients_until_its_file_says_otherwise():
    node = parse_settings(NodeFile, NODE, "client.toml")
    assert (node.server, node.keys, node.stay, node.policy) == ("", "", False, Policy())
    assert {key: value for key, value in vars(Policy()).items() if value is not None} == {
        "gradients": False,
        "class_sums": False,
        "min_class_rows": 0,
    }
    assert parse_settings(NodeFile, to_tables(node), "again.toml") == node


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_rank", 0), ("max_steps", 1.5), ("min_lr", 0), ("min_seconds", -1), ("targets", []), ("max_bytes", "1 GB")],
)
def test_a_wrong_limit_is_named(key, value):
    message = error_of(NODE | {"policy": {key: value}}, NodeFile)
    assert message.startswith(f"r.toml: [policy] {key} = {value!r}: ")


def test_a_misspelt_limit_is_not_a_limit_that_is_not_set():
    message = error_of(NODE | {"policy": {"max_rnak": 4}}, NodeFile)
    assert "unknown key [policy] max_rnak; did you mean 'max_rank'" in message
