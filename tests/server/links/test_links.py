"""Links: a buffer that a node holds crosses once, and a node that lost it gets it again."""

import pytest

from common.adapters.link_codecs import CODECS
from common.errors import ConfigError
from server.links.links import Links
from tests.helpers.server.exchange import Recorded
from tests.helpers.server.runs import FOUR, clients, fresh, hashes, plan, run


def down(entries):
    return [entry["metrics"]["bytes_down"] for entry in entries]


@pytest.mark.parametrize("algorithm", ["increments", "fedlin"])
def test_by_hash_changes_no_bit_and_sends_less(algorithm, tmp_path):
    server = {"algorithm": algorithm, "mode": "b"}
    runs = {codec: run(tmp_path / codec, fresh(), plan(4, codec=codec, **server)) for codec in CODECS}
    assert hashes(runs["by-hash"]) == hashes(runs["plain"])
    assert all(less < more for less, more in zip(down(runs["by-hash"])[1:], down(runs["plain"])[1:], strict=True))


def test_what_is_hashed_and_recorded_is_what_the_node_has(tmp_path):
    """The parent of a round is the hash of the buffer that its nodes hold, whether it crossed or not."""
    messenger = Recorded(FOUR)
    entries = run(tmp_path, messenger, plan(3))
    for number in (2, 3):
        payload = messenger.payloads["train", number, "ada"]
        assert payload.parts["frozen"] == b"#" + payload.values["parent"].encode()
        assert payload.values["parent"] == entries[number - 1]["adapter_hash"]
        assert payload.values["parent"] in messenger.connected[100].held


def test_a_node_that_forgot_is_sent_the_factors_again_and_counts(tmp_path):
    reference = run(tmp_path / "reference", fresh(), plan(3))
    messenger = fresh()
    forgetful = messenger.connected[100]
    answer = type(forgetful).answer

    class Forgetful(type(forgetful)):
        def answer(self, kind, payload):
            if kind == "train" and payload.parts["frozen"].startswith(b"#"):
                return "missing"
            return answer(self, kind, payload)

    messenger.connected[100] = Forgetful(forgetful.name, forgetful.rank, forgetful.rows)
    entries = run(tmp_path / "forgetful", messenger, plan(3))
    assert hashes(entries) == hashes(reference)
    record, whole = (clients(each[-1])["ada"] for each in (entries, reference))
    assert (record["status"], record["reason"]) == ("ok", None)
    assert record["bytes_down"] > whole["bytes_down"]


@pytest.mark.parametrize(("codec", "times"), [("by-hash", 2), ("plain", 1)])
def test_a_node_that_always_says_missing_is_refused_by_that_word(codec, times, tmp_path):
    """It is sent again only what it was sent by its hash."""
    messenger = fresh()
    messenger.tamper = lambda name, kind, number, reply: "missing" if (name, kind) == ("eve", "train") else reply
    assert clients(run(tmp_path, messenger, plan(1, codec=codec))[1])["eve"]["reason"] == "missing"
    assert sum("eve" in names for kind, _, names in messenger.asked if kind == "train") == times


def test_a_node_under_a_new_number_holds_nothing(tmp_path):
    messenger = Recorded(FOUR)

    def leave(name, kind, number, reply):
        if (name, kind, number) == ("ada", "evaluate", 1):
            messenger.connected[900] = messenger.connected.pop(100)
        return reply

    messenger.tamper = leave
    messenger.payloads.clear()
    run(tmp_path, Numbered(messenger), plan(3))
    assert not messenger.payloads["train", 2, "ada"].parts["frozen"].startswith(b"#")
    assert messenger.payloads["train", 3, "ada"].parts["frozen"].startswith(b"#")


class Numbered:
    """Remembers payloads by the name that a number had when it was asked."""

    def __init__(self, inner):
        self.inner = inner

    def nodes(self):
        return self.inner.nodes()

    def name(self, node):
        return self.inner.name(node)

    def announcements(self, question, known):
        return self.inner.announcements(question, known)

    def request(self, kind, payloads, number, grace=None):
        names = {node: self.inner.connected[node].name for node in payloads}
        for node, reply in super(Recorded, self.inner).request(kind, payloads, number):
            self.inner.payloads[kind, number, names[node]] = payloads[node]
            yield node, reply


def test_an_unknown_codec_is_named():
    with pytest.raises(ConfigError, match=r"\[server\] codec = 'by-hahs' is unknown.*'by-hash'"):
        Links(fresh(), "by-hahs")
