"""A server and three nodes over mutual TLS on loopback, among nodes and strangers that misbehave in every way."""

import pytest

import client.app
from common.identity.credentials import load_node_credentials
from server.app import make_app
from simulations.grid import InProcessGrid
from tests.helpers.end_to_end.adversarial_run import Disturbed, admit_unlisted, expired_certificate, let_expire
from tests.helpers.end_to_end.deployment import NODES
from tests.helpers.end_to_end.invalid_replies import CONTENT, SIGNED
from tests.helpers.end_to_end.strangers import bytes_given, plain_bytes_given, tls
from tests.helpers.simulations.runs import entries, hashes

pytestmark = pytest.mark.slow

REASONS = {
    **{name: vice.reason for name, vice in CONTENT.items()},
    **{f"flipped-{field}": "signature" for field in SIGNED},
    **dict.fromkeys(["for-another-project", "as-another-node"], "signature"),
    "replay": "replay",
    "impostor": "failed",
}
"""The journal's word for each hostile node whose announcement is good."""
OUTSIDERS = {
    "unregistered": ("unknown", "not on the server's roster"),
    "twin": ("unknown", "not on the server's roster"),
    "expired": ("expired", "certificate has expired"),
}
"""The server's word for each node of the project's authority that may not take part, and what the node says of it."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Three good nodes, and a fourth in the process of the hostile ones."""
    run = Disturbed(tmp_path_factory.mktemp("undisturbed"), ["victim"])
    run.run()
    return run


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    """Run the same among all others."""
    run = Disturbed(tmp_path_factory.mktemp("disturbed"), ["victim", *REASONS, "braggart"], braggart=4)
    outsiders = _outsiders(run.project)
    run.given = {}
    run.run(outsiders, lambda: run.given.update(_given_to_strangers(run.project)))
    return run


def _outsiders(project):
    """Files of nodes by the names in OUTSIDERS."""
    admit_unlisted(project, "unregistered")
    admit_unlisted(project, "twin")
    forged = (project.folder / "twin").rename(project.folder / "forged")
    project.admit("twin")
    project.admit("expired")
    let_expire(project, "expired")
    return [project.node_file(name, keys=forged if name == "twin" else None) for name in OUTSIDERS]


def _given_to_strangers(project):
    """Bytes that the server gives to each, and to a node."""
    node = load_node_credentials(project.folder / "client-00", "client-00")
    pems = {"expired": expired_certificate(project, "client-00"), "node": node}
    given = {who: bytes_given(project.port, tls(each, tmp_path=project.folder)) for who, each in pems.items()}
    return given | {"nobody": bytes_given(project.port, tls()), "plaintext": plain_bytes_given(project.port)}


def reasons(run):
    """Return the journal's reason word by node for each round in which nodes train."""
    committed = [entry["metrics"] for entry in entries(run.project.run)[1:]]
    return [{node["name"]: node["reason"] for node in metrics["clients"]} for metrics in committed]


def test_everybody_takes_part_in_every_round_and_each_that_misbehaves_is_refused_by_name(undisturbed, disturbed):
    good = dict.fromkeys([*NODES, "victim"])
    assert reasons(undisturbed) == [good] * 3
    assert reasons(disturbed) == [good | REASONS | {"braggart": "rank"}] * 3


def test_the_others_are_unaffected_to_the_bit(undisturbed, disturbed):
    assert hashes(disturbed.project.run) == hashes(undisturbed.project.run)
    assert len(set(hashes(undisturbed.project.run))) == 4  # control


def test_a_node_among_the_hostile_ones_that_behaves_counts(undisturbed):
    """The control of the hashes: without it they are others."""
    shards = undisturbed.project.shards
    with InProcessGrid(client.app.app, [shards / "nodes" / f"{name}.toml" for name in NODES], 1, 1) as grid:
        grid.serve(make_app(), shards)
    first, *trained = zip(hashes(shards), hashes(undisturbed.project.run), strict=True)
    assert first[0] == first[1]
    assert all(without != with_it for without, with_it in trained)


def test_all_end_by_themselves(undisturbed, disturbed):
    for run in (undisturbed, disturbed):
        assert [ended.status for ended in run.ends[:5]] == [0] * 5, run.ends


def test_a_node_that_answers_for_another_is_told_so_and_named(disturbed):
    assert disturbed.ends[1].out.splitlines() == ["impostor: stale"] * 3
    assert disturbed.log.count("node impostor is rejected: stale") == 1
    assert "node impostor was refused 2 more times in the last minute: stale" in disturbed.log


def test_a_node_that_trains_more_than_its_rank_is_named_and_never_asked_to_train(disturbed):
    assert "a reply of node braggart is rejected: rank" in disturbed.log
    committed = [entry["metrics"]["clients"] for entry in entries(disturbed.project.run)[1:]]
    own = [next(client for client in clients if client["name"] == "braggart") for clients in committed]
    assert {(client["bytes_down"], client["update"]) for client in own} == {(0, None)}


def test_a_node_that_the_roster_does_not_admit_ends_with_the_reason_and_is_named(disturbed):
    for (name, (word, meaning)), ended in zip(OUTSIDERS.items(), disturbed.ends[5:], strict=True):
        assert (ended.status, meaning in ended.err) == (2, True), ended
        assert f"node {name} is rejected: {word}" in disturbed.log


def test_a_stranger_gets_no_byte(disturbed):
    given = {who: bool(answer) for who, answer in disturbed.given.items()}
    assert given == {"expired": False, "nobody": False, "plaintext": False, "node": True}  # the last is the control
