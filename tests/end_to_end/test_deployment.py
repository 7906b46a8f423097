"""A server and nodes as processes of their own, over mutual TLS on loopback."""

import json
import signal
import time

import grpc
import pytest
import tomli_w
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.identity.credentials import load_node_credentials
from common.identity.documents import signatures
from common.identity.documents.signatures import Receipt
from common.protocol.channel import SERVICE
from common.settings.reader import read_toml
from simulations.tiny_base import tiny_base
from tests.helpers.end_to_end.command import call, end, refusal
from tests.helpers.end_to_end.deployment import NODES, Project
from tests.helpers.simulations.runs import hashes, records, wait_for_line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project whose run has ended, and the ends of its processes."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.ends = project.whole_run()
    return project


def test_a_server_and_three_nodes_end_by_themselves_and_learn(project):
    assert [ended.status for ended in project.ends] == [0] * 4, project.ends
    assert project.ends[0].out.splitlines()[-1] == f"run: {project.run}"
    losses = [[node["loss_after"] for node in record["clients"]] for record in records(project.run)]
    assert sum(losses[-1]) < sum(losses[0]) - 0.05
    assert {node["name"]: node["rank"] for node in records(project.run)[-1]["clients"]} == NODES


def test_the_update_is_that_of_the_grid_in_one_process_to_the_bit(project):
    assert hashes(project.run) == hashes(project.run_in_one_process())
    assert len(set(hashes(project.run))) == 4  # control


def test_each_node_has_signed_receipts_for_its_updates(project):
    shares = [{c["name"]: (c["update"], c["share"]) for c in record["clients"]} for record in records(project.run)[1:]]
    for name in NODES:
        lines = (project.folder / name / f"{name}.receipts").read_text().splitlines()
        receipts = [json.loads(line) for line in lines]
        assert [(receipt["blob_hash"], receipt["weight"]) for receipt in receipts] == [each[name] for each in shares]
        assert [receipt["adapter_hash"] for receipt in receipts] == hashes(project.run)[1:]
        key = load_node_credentials(project.folder / name, name).receipt_public_key
        for receipt in receipts:
            signature = bytes.fromhex(receipt.pop("signature"))
            assert signatures.verify_signature(Receipt(**receipt), signature, key)
            assert not signatures.verify_signature(Receipt(**receipt | {"round": 9}), signature, key)


def test_status_tells_of_the_ended_run(project):
    status = json.loads((project.run / "status.json").read_text())
    assert (status["round"], status["phase"]) == (3, "finished")
    assert [node["name"] for node in status["nodes"]] == list(NODES)


def test_a_server_whose_run_is_done_says_so_and_leaves_it_as_it_is(project):
    before = (project.run / "status.json").read_bytes()
    again = end(project.server())
    assert again.status == 0
    assert "all 3 rounds are done" in again.err
    assert again.out.splitlines()[-1] == f"run: {project.run}"
    assert (project.run / "status.json").read_bytes() == before


def test_its_adapter_is_used_once_a_nodes_file_is_beside_it(project, tmp_path):
    assert "has no test.toml" in refusal(call("export", project.run, tmp_path / "adapter"))
    node = read_toml(project.shards / "nodes" / "client-00.toml")
    data = str(project.shards / "nodes" / node["data"])
    (project.run / "test.toml").write_text(tomli_w.dumps(dict(node) | {"data": data}))
    measured = call("evaluate", project.run)
    assert json.loads(measured.out)["count"] > 0
    assert call("export", project.run, tmp_path / "adapter").status == 0
    (project.run / "test.toml").unlink()


def test_those_who_may_not_take_part_are_told_why_and_disturb_nobody(project, tmp_path):
    here, elsewhere = Project(tmp_path / "here"), Project(tmp_path / "elsewhere")
    for name, rank in {"revoked": 16, "greedy": 2, "other-base": 16}.items():
        here.admit(name, rank)
    here.keys("revoke", "revoked")
    elsewhere.admit("stranger")
    *ours, stranger, revoked, greedy, other = here.whole_run(
        here.node_file("stranger", keys=elsewhere.folder / "stranger"),
        here.node_file("revoked"),
        here.node_file("greedy", rank=4),
        here.node_file("other-base", base=str(tiny_base("roberta"))),
    )
    assert [ended.status for ended in ours] == [0] * 4, ours
    assert (stranger.status, "not from this project's authority" in stranger.err) == (2, True), stranger
    assert (revoked.status, "was revoked" in revoked.err) == (2, True), revoked
    assert (greedy.status, "above what the roster allows" in greedy.err) == (2, True), greedy
    # Where it loads for longer than the run takes, it is not asked any more.
    assert other.status == (2 if "its operator's base.toml" in other.err else 0), other
    words = {node["name"]: node["reason"] for record in records(here.run) for node in record["clients"]}
    assert words == dict.fromkeys(NODES) | ({"other-base": "base"} if "other-base" in words else {})
    assert hashes(here.run) == hashes(project.run)


def test_a_server_that_is_stopped_goes_on_where_it_was(project, tmp_path):
    own = Project(tmp_path / "own")
    server, clients = own.server(), own.clients()
    wait_for_line(server, own.run / "metrics.jsonl", 2)
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    stopped = end(server)
    assert (stopped.status, "resume with: fedlora server" in stopped.err) == (0, True)
    assert time.monotonic() - began < 10
    assert end(own.server()).status == 0
    assert [end(each).status for each in clients] == [0] * 3
    assert hashes(own.run) == hashes(project.run)


def test_a_second_server_on_the_folder_ends_at_once_and_the_first_is_well(project, tmp_path):
    own = Project(tmp_path / "own")
    first = own.server()
    while not (own.run / "status.json").exists():
        time.sleep(0.05)
    health = json.loads((own.run / "status.json").read_text())["health"]
    assert health.startswith("127.0.0.1:")
    second = end(own.server())
    assert second.status == 2
    assert str(own.run) in second.err
    assert is_well(health)
    first.send_signal(signal.SIGINT)
    assert end(first).status == 0
    assert not (own.run / "metrics.jsonl").read_bytes()  # it waited for nodes
    with pytest.raises(grpc.RpcError):  # control
        is_well(health)


def is_well(address: str) -> bool:
    """Return whether gRPC's health service at this address reports that the server is serving."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
