import threading
from pathlib import Path

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

import client.app
from client.check import describe_base
from common.settings.reader import to_tables
from server.app import make_app
from server.run_folder import RunFolder
from server.transport.flower_messenger import FlowerMessenger, Payload
from simulations.grid import InProcessGrid
from simulations.prepare import prepare, write_nodes
from simulations.recipe import read_recipe
from tests.helpers.end_to_end.command import TINY
from tests.helpers.simulations.runs import BRIEF, hashes, records, run_tiny

FILES = tuple(Path(f"node-{number}.toml") for number in range(3))


@pytest.fixture
def app():
    """Tells the node's file and the thread that answered; fails where it is asked to; waits where it is asked to."""
    app, app.gate = ClientApp(), threading.Event()

    @app.train()
    def train(message, context):
        values = message.content["values"]
        if values.get("fail") == context.node_config["node"]:
            raise KeyError("a secret of the node")
        if values.get("wait") == context.node_config["node"]:
            app.gate.wait(60)
        context.state["seen"] = ConfigRecord({"count": _seen(context) + 1})
        answer = {"node": context.node_config["node"], "thread": threading.current_thread().name}
        return Message(RecordDict({"values": ConfigRecord(answer | {"seen": _seen(context)})}), reply_to=message)

    return app


def _seen(context):
    return context.state["seen"]["count"] if "seen" in context.state else 0


@pytest.fixture
def grid(app):
    with InProcessGrid(app, FILES, workers=2, threads=1) as grid:
        yield grid
        app.gate.set()


def ask(grid, **values):
    """Make a message with these values to each node."""
    content = RecordDict({"values": ConfigRecord(values)})
    return [grid.create_message(content, "train", node, group_id="1") for node in grid.get_node_ids()]


def values(replies):
    return [dict(reply.content["values"]) for reply in replies if reply.has_content()]


def test_each_node_answers_with_its_own_file_in_a_worker(grid):
    replies = values(grid.send_and_receive(ask(grid)))
    assert sorted(reply["node"] for reply in replies) == ["node-0.toml", "node-1.toml", "node-2.toml"]
    assert all(reply["thread"].startswith("node") for reply in replies)
    assert not threading.current_thread().name.startswith("node")


def test_a_node_keeps_its_own_state_between_messages(grid):
    grid.send_and_receive(ask(grid)[:1])
    assert sorted(reply["seen"] for reply in values(grid.send_and_receive(ask(grid)))) == [1, 1, 2]


def test_workers_answer_side_by_side(grid, app):
    ids, pulled = list(grid.push_messages(ask(grid, wait="node-0.toml"))), []
    while len(pulled) < 2:
        pulled += grid.pull_messages(ids)
    assert sorted(reply["node"] for reply in values(pulled)) == ["node-1.toml", "node-2.toml"]
    app.gate.set()


def test_a_reply_is_pulled_once(grid):
    ids = list(grid.push_messages(ask(grid)))
    pulled = []
    while len(pulled) < 3:
        pulled += grid.pull_messages(ids)
    assert {reply.metadata.reply_to_message_id for reply in pulled} == set(ids)
    assert list(grid.pull_messages(ids)) == []
    assert list(grid.pull_messages(["unknown"])) == []


@pytest.mark.slow  # the others must answer within the timeout, however busy the machine is
def test_sending_hands_back_what_is_there_at_the_timeout(grid, app):
    replies = values(grid.send_and_receive(ask(grid, wait="node-1.toml"), timeout=10))
    assert sorted(reply["node"] for reply in replies) == ["node-0.toml", "node-2.toml"]
    app.gate.set()


def test_an_app_that_raises_fails_alone_and_tells_nothing(grid):
    replies = list(grid.send_and_receive(ask(grid, fail="node-1.toml")))
    assert len(values(replies)) == 2
    (failed,) = [reply for reply in replies if reply.has_error()]
    assert failed.error.reason == "failed"
    assert "secret" not in str(failed.error)


def test_a_message_that_no_app_answers_fails_alone(grid):
    content = RecordDict({"values": ConfigRecord({})})
    query = [grid.create_message(content, "query", node, group_id="1") for node in grid.get_node_ids()]
    assert all(reply.has_error() for reply in grid.send_and_receive(query))
    assert len(values(grid.send_and_receive(ask(grid)))) == 3


def test_the_exchange_calls_it_failed(grid):
    payloads = dict.fromkeys(grid.get_node_ids(), Payload({"fail": "node-1.toml"}))
    replies = [reply for _, reply in FlowerMessenger(grid, deadline=60).request("train", payloads, 1)]
    assert replies.count("failed") == 1
    assert sum(isinstance(reply, Payload) for reply in replies) == 2


def test_an_answer_does_not_change_the_letter_of_another(grid):
    messages = ask(grid)
    grid.send_and_receive(messages)
    assert all(message.has_content() and not message.metadata.message_id for message in messages)


def test_two_grids_after_each_other(app):
    for _ in range(2):
        with InProcessGrid(app, FILES, workers=1, threads=1) as grid:
            assert sorted(reply["seen"] for reply in values(grid.send_and_receive(ask(grid)))) == [1, 1, 1]


@pytest.mark.parametrize("threads", [1, 2])
def test_workers_compute_with_the_threads_they_were_given(app, threads):
    own = torch.get_num_threads()
    with InProcessGrid(app, FILES, workers=2, threads=threads) as grid:
        assert grid.map(lambda _: torch.get_num_threads(), range(4)) == [threads] * 4
    assert torch.get_num_threads() == own


def test_map_keeps_the_order(grid):
    assert grid.map(lambda number: number * number, range(20)) == [number * number for number in range(20)]


def test_a_server_app_gets_the_folder_of_the_run(grid, tmp_path):
    server, seen = ServerApp(), []

    @server.main()
    def main(grid, context):
        seen.append((len(list(grid.get_node_ids())), context.run_config["run"]))

    grid.serve(server, tmp_path)
    assert seen == [(3, str(tmp_path))]


def test_a_fault_outside_does_not_wait_for_the_workers(app):
    with pytest.raises(KeyError), InProcessGrid(app, FILES, workers=1, threads=1) as grid:
        grid.push_messages(ask(grid, wait="node-0.toml"))
        raise KeyError("outside")
    assert not app.gate.is_set()
    app.gate.set()


def test_a_client_that_fails_is_left_out_and_the_run_goes_on(tmp_path):
    recipe = read_recipe(TINY, list(BRIEF))
    folder = RunFolder.create(tmp_path / "run", to_tables(recipe))
    prepared = prepare(recipe)
    files = write_nodes(folder.path / "nodes", prepared)
    folder.describe_base(describe_base(prepared.nodes[0], recipe.lora.targets))

    def faulty(message, context):
        if message.metadata.message_type == "train" and "client-02" in context.node_config["node"]:
            raise MemoryError("no memory left")
        return client.app.app(message, context)

    with InProcessGrid(faulty, files, workers=2, threads=1) as grid:
        grid.serve(make_app(), folder.path)
    whole = run_tiny(tmp_path, *BRIEF, name="whole")
    for record in records(folder.path)[1:]:
        outcome = {each["name"]: (each["status"], each["reason"]) for each in record["clients"]}
        assert outcome.pop("client-02") == ("refused", "failed")
        assert set(outcome.values()) == {("ok", None)}
        assert sum(each["share"] for each in record["clients"]) == pytest.approx(1)
    assert hashes(folder.path)[1] != hashes(whole)[1]
