"""Changes in place of the whole: what each node is sent, by what it holds, and that all train on the same bits."""

from dataclasses import replace

import pytest

from common.adapters.link_codecs import CODECS, Held, form_of
from common.protocol.messages import FROZEN
from tests.helpers.server.exchange import NumpyNode, Recorded
from tests.helpers.server.runs import FOUR, Each, clients, hashes, plan, run

ROUNDS = 9
LIST = {"rank_change": 2, "rank_global": 40, "wire": "int8", "evaluate_every": ROUNDS}
"""A list of changes that no whole interrupts before the last round."""
SHORT = LIST | {"rank_global": 6}
"""A new whole in every third round."""


def four():
    return [replace(node, held={}) for node in FOUR]


class Forms(Recorded):
    """Remembers in which form each node was last sent the global update to train on, by round and name."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.forms = {}

    def request(self, kind, payloads, number, grace=None):
        for node, payload in payloads.items():
            if kind == "train":
                self.forms.setdefault((number, self.connected[node].name), []).append(form_of(payload.parts[FROZEN]))
        yield from super().request(kind, payloads, number, grace)


def forms(messenger, name, rounds):
    return [messenger.forms.get((number, name)) for number in rounds]


def away(messenger, leaves, returns, come_back):
    """Return an observer by which ada is away between two rounds, and comes back under another number."""

    def act(number):
        if number == leaves:
            messenger.gone = messenger.connected.pop(100)
        if number == returns:
            messenger.connected[900] = come_back(messenger.gone)

    return Each(committed=act)


def knows(node, keep=True):
    """Return a node that announces the last update that it trained on, and still has it or not."""
    digest, buffer = list(node.held.items())[-1]
    return NumpyNode(node.name, node.rank, held={digest: buffer} if keep else {}, kept=Held.of(buffer, digest))


def test_every_codec_has_the_same_bits_and_the_parts_add_up(tmp_path):
    runs = {codec: run(tmp_path / codec, Recorded(four()), plan(ROUNDS, **LIST, codec=codec)) for codec in CODECS}
    assert hashes(runs["by-change"]) == hashes(runs["by-hash"]) == hashes(runs["plain"])
    down = {codec: sum(entry["metrics"]["bytes_down"] for entry in entries) for codec, entries in runs.items()}
    assert down["by-change"] < down["by-hash"] < down["plain"]
    for entry in runs["by-change"]:
        for client in clients(entry).values():
            assert sum(client["bytes_by_part"].values()) == client["bytes_down"]


def test_a_change_is_sent_each_round_and_counted_as_one(tmp_path):
    entries = run(tmp_path, messenger := Forms(four()), plan(ROUNDS, **LIST))
    assert forms(messenger, "ada", range(1, ROUNDS + 1)) == [["held"], ["whole"], *[["change"]] * (ROUNDS - 2)]
    parts = [clients(entry)["ada"]["bytes_by_part"] for entry in entries]
    assert all(set(each) == {"factors", "change"} for each in parts[3:-1])
    assert set(parts[0]) == {"evaluation"}
    assert set(parts[-1]) == {"factors", "change", "evaluation"}


def test_a_whole_where_the_list_begins_anew(tmp_path):
    run(tmp_path, messenger := Forms(four()), plan(ROUNDS, **SHORT))
    kinds = [each[0] for each in forms(messenger, "ada", range(1, ROUNDS + 1))]
    assert kinds == ["held", "whole", "change", "change", "whole", "change", "whole", "change", "whole"]


@pytest.mark.parametrize(("settings", "form"), [(LIST, "change"), (SHORT, "whole")])
def test_one_that_was_absent_five_rounds_is_sent_what_it_lacks(settings, form, tmp_path):
    reference = run(tmp_path / "reference", messenger := Forms(four()), plan(ROUNDS, **settings))
    absent = Forms(four())
    entries = run(tmp_path / "absent", absent, plan(ROUNDS, **settings), away(absent, 2, 7, knows))
    assert forms(absent, "ada", range(1, ROUNDS)) == [["held"], ["whole"], None, None, None, None, None, [form]]
    assert clients(entries[8])["ada"]["status"] == "ok"
    assert absent.payloads["train", 8, "ada"].values["parent"] == entries[7]["adapter_hash"]
    assert hashes(entries)[:3] == hashes(reference)[:3]
    if form == "change":
        six, one = (len(m.payloads["train", 8, "ada"].parts[FROZEN]) for m in (absent, messenger))
        assert 2 * one < six < 7 * one  # beside headers, which are alike


def test_one_that_joins_late_is_sent_the_whole_once(tmp_path):
    messenger = Forms(four())
    joins = Each(committed=lambda number: messenger.connected.update({999: NumpyNode("zoe", 2)}) if number == 3 else 0)
    entries = run(tmp_path, messenger, plan(ROUNDS, **LIST), joins)
    assert forms(messenger, "zoe", range(3, 7)) == [None, ["whole"], ["change"], ["change"]]
    parts = clients(entries[4])["zoe"]["bytes_by_part"]
    assert parts["whole"] > parts.get("change", 0)


@pytest.mark.parametrize("kind", ["lost", "damaged"])
def test_one_that_no_longer_has_what_it_announced_is_sent_the_whole_and_counts(kind, tmp_path):
    def come_back(node):
        after = knows(node, keep=kind == "damaged")
        for digest, buffer in after.held.items():
            after.held[digest] = buffer[:-4] + b"\0\0\0\0"
        return after

    messenger = Forms(four())
    entries = run(tmp_path, messenger, plan(ROUNDS, **LIST), away(messenger, 2, 3, come_back))
    assert forms(messenger, "ada", [4, 5]) == [["change", "whole"], ["change"]]
    record = clients(entries[4])["ada"]
    assert (record["status"], set(record["bytes_by_part"])) == ("ok", {"factors", "change", "whole"})
    assert record["bytes_down"] > clients(entries[4])["bob"]["bytes_down"]


@pytest.mark.parametrize("ranks", [(), (1,), (2, 2, 2), (9, 9, 9), (0, 0, 0)])
def test_an_update_of_another_run_is_no_start_for_a_change(ranks, tmp_path):
    messenger = Forms(four())
    stranger = lambda node: NumpyNode(node.name, node.rank, held={}, kept=Held("f" * 64, ranks))  # noqa: E731
    entries = run(tmp_path, messenger, plan(ROUNDS, **LIST), away(messenger, 2, 3, stranger))
    assert forms(messenger, "ada", [4, 5]) == [["whole"], ["change"]]
    assert clients(entries[4])["ada"]["status"] == "ok"


def test_one_that_is_sampled_now_and_then_is_sent_what_it_lacks(tmp_path):
    messenger = Forms(four())
    run(tmp_path, messenger, plan(ROUNDS, **LIST, cohort=2))
    first = {min(number for number, who in messenger.forms if who == node.name) for node in FOUR}
    later = [form for (number, _), each in messenger.forms.items() for form in each if number > 2]
    assert len(first) > 1
    assert set(later) <= {"change", "whole"}
    assert later.count("change") > 2 * later.count("whole")


@pytest.mark.parametrize("cohort", [1, 2, None])
def test_every_byte_that_is_sent_is_told(cohort, tmp_path):
    """But those of the last evaluation to nodes that are in no round any more, of which there are none."""
    messenger, sent = Recorded(four()), []
    request = messenger.request

    def counted(kind, payloads, number, grace=None):
        sent.extend(payload.size for payload in payloads.values())
        yield from request(kind, payloads, number, grace)

    messenger.request = counted
    entries = run(tmp_path, messenger, plan(ROUNDS, **LIST | {"evaluate_every": 1}, cohort=cohort))
    told = sum(entry["metrics"]["bytes_down"] for entry in entries)
    following = 0 if cohort is None else max(sent) * 4  # of nodes that no later round has
    assert 0 <= sum(sent) - told <= following
    assert told > 0.8 * sum(sent)


def test_a_server_that_starts_again_asks_what_its_nodes_hold(tmp_path):
    """It knows nothing of earlier connections; the nodes announce what they have kept."""
    reference = run(tmp_path / "reference", Recorded(four()), plan(ROUNDS, **LIST))

    class Stop(Exception):
        pass

    def stop(number):
        if number == 4:
            raise Stop

    first = Recorded(four())
    with pytest.raises(Stop):
        run(tmp_path / "run", first, plan(ROUNDS, **LIST), Each(committed=stop))
    again = Forms([replace(knows(node), rows=node.rows) for node in first.connected.values()])
    assert hashes(run(tmp_path / "run", again, plan(ROUNDS, **LIST))) == hashes(reference)
    assert {tuple(forms(again, node.name, [5])[0]) for node in FOUR} == {("change",)}
