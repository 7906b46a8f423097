import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp

from simulations.bench.measure import GateError
from simulations.bench.transport import exchange
from simulations.bench.transport.deployment import make_project
from simulations.bench.transport.exchange import NODES, time_rounds
from simulations.bench.transport.sockets import tls_copy
from tests.helpers.end_to_end.transport import blob_of, content


@pytest.fixture
def project(tmp_path):
    make_project(tmp_path, NODES)
    return tmp_path


def test_two_nodes_send_back_what_they_got_beside_a_copy_and_a_commit(project):
    seconds, gate = time_rounds(project, 2, (1, 2))
    assert seconds.keys() == {"empty", "large", "copy", "commit"}
    assert min(seconds.values()) > 0
    assert gate.startswith("2 nodes send back each bit of 131")
    assert len((project / "journal" / "log.jsonl").read_text().splitlines()) == 3


def changing():
    """Return an app that changes the last byte."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        return Message(content(blob_of(message)[:-1] + b"?", **message.content["values"]), reply_to=message)

    return app


def test_a_changed_byte_is_refused(project, monkeypatch):
    monkeypatch.setattr(exchange, "echo", changing)
    with pytest.raises(GateError, match="each bit"):
        time_rounds(project, 1, (1, 1))


def test_a_copy_is_whole_each_time(project):
    with tls_copy(project / "keys", 2**20 + 1) as copy:
        copy()
        copy()
