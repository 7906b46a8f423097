"""What was not sent is kept in two states; the server's count decides, and a memory that is wrong is never used."""

import logging
import os
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.memory.error_memory import SCALE, ErrorMemory, Memory, Reply
from client.training.gradient_exchange import left_out
from common.adapters.adapter import Adapter
from common.adapters.gradient import compress
from common.errors import ConfigError
from common.protocol.assignment import CountedReply
from common.protocol.messages import pack_gradient
from common.seeding import rng

SHAPES = {"a/q": (20, 4), "b/q": (30, 4), "b/whole": (4, 4)}
RANK = 1
NONE = CountedReply()


def dense(adapter):
    return {side: f.b.astype("f8") @ f.a.astype("f8") for side, f in adapter.items()}


@dataclass
class Node:
    """A node without a model, whose gradients are noise of its round; and what the server knows of it."""

    file: Path
    run: str = "run"
    name: str = "ada"
    counted: CountedReply = NONE
    summed: dict = field(default_factory=dict)
    computed: dict = field(default_factory=dict)

    def answer(self, number: int, attempt: int = 1) -> tuple[Reply, dict]:
        """Reply to a request; the rows of a round that did not count are drawn again, so its gradient is the same."""
        memory = ErrorMemory(self.file, self.name, self.run)
        start = memory.recall(self.counted, SHAPES)
        own = {side: rng(number, side).standard_normal(shape).astype("f4") for side, shape in SHAPES.items()}
        whole = {side: own[side] + start.unsent.get(side, np.float32(0)) for side in own}
        sent = Adapter({side: compress(matrix, RANK) for side, matrix in whole.items()})
        update = sha256(pack_gradient(sent)).hexdigest()
        reply = Reply(number, update, sent, Memory(left_out(whole, sent), start.scale / 2))
        memory.keep(self.counted, start, reply)
        return reply, own

    def count(self, reply: Reply, own: dict, clip: float = 1.0) -> None:
        """Let the server count a reply, scaled by `clip`."""
        self.counted = CountedReply(reply.round, reply.update, clip)
        for side, matrix in dense(reply.sent).items():
            self.summed[side] = self.summed.get(side, 0) + clip * matrix
            self.computed[side] = self.computed.get(side, 0) + own[side]

    def gap(self) -> float:
        """Return ||counted + kept - computed|| / ||computed||."""
        kept = ErrorMemory(self.file, self.name, self.run).recall(self.counted, SHAPES).unsent
        total = {side: self.summed[side] + kept.get(side, 0) for side in self.summed}
        size = np.sqrt(sum(np.sum(matrix**2) for matrix in self.computed.values()))
        return np.sqrt(sum(np.sum((total[side] - self.computed[side]) ** 2) for side in total)) / size


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path / "ada.toml")


def test_counted_and_kept_is_computed(node):
    for number in range(1, 8):
        node.count(*node.answer(number))
    assert node.gap() < 1e-6
    node.counted = NONE
    assert node.gap() > 0.1  # control: something is kept


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1.0, 1.0, 0.5, 0.0]), st.integers(0, 5)), max_size=6))
def test_it_is_so_whatever_is_abandoned_clipped_or_missed(rounds):
    """Each round: attempts in vain, then one that counts, clipped by a factor, then rounds of absence."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        node, number = Node(Path(folder) / "ada.toml"), 0
        for vain, clip, absent in rounds:
            number += 1
            for attempt in range(vain):
                node.answer(number, attempt)
            node.count(*node.answer(number, vain), clip)
            number += absent
        assert not rounds or node.gap() < 1e-6


def test_an_attempt_in_vain_changes_no_bit_of_the_next(tmp_path):
    calm, unlucky = Node(tmp_path / "calm.toml"), Node(tmp_path / "unlucky.toml")
    for number in range(1, 5):
        for _ in range(number):
            unlucky.answer(number)
        updates = []
        for node in (calm, unlucky):
            reply, own = node.answer(number)
            node.count(reply, own, clip=0.75)
            updates.append(reply.update)
        assert updates[0] == updates[1]


def test_the_scale_goes_with_the_state_that_counts(node):
    node.answer(1)
    reply, own = node.answer(1)
    memory = ErrorMemory(node.file, "ada", "run")
    assert memory.recall(NONE, SHAPES).scale == SCALE
    node.count(reply, own)
    assert memory.recall(node.counted, SHAPES).scale == SCALE / 2


class KilledError(BaseException):
    """An error that no code of ours can catch."""


def killing_at(patch, step):
    """From this call to the disk on none is made, as after a SIGKILL; returns the calls that were tried."""
    tried = []

    def deadly(name, real):
        def call(*args, **kwargs):
            tried.append(name)
            if len(tried) > step:
                raise KilledError
            return real(*args, **kwargs)

        return call

    for name in ("open", "fsync", "mkdir", "rename", "replace", "unlink"):
        patch.setattr(os, name, deadly(name, getattr(os, name)))
    return tried


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_node_that_is_killed_at_any_step_on_the_disk_loses_nothing(before, tmp_path):
    calm = Node(tmp_path / "calm.toml")
    for number in range(1, before + 3):
        calm.count(*calm.answer(number))
    for step in range(100):
        node = Node(tmp_path / f"{step}.toml")
        for number in range(1, before + 1):
            node.count(*node.answer(number))
        with pytest.MonkeyPatch.context() as patch:
            tried = killing_at(patch, step)
            try:
                node.answer(before + 1)
                killed = False
            except KilledError:
                killed = True
        for number in (before + 1, before + 2):
            node.count(*node.answer(number))
        assert node.gap() < 1e-6
        assert node.counted.counted_update == calm.counted.counted_update  # the same bits
        if not killed:
            assert len(tried) >= 4  # control: there were steps to be killed at
            return
    pytest.fail("it never ended")


def lost(node, caplog):
    """Return what is recalled, and what the log says of it."""
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        memory = ErrorMemory(node.file, node.name, node.run).recall(node.counted, SHAPES)
    return memory, caplog.text


def after_two(node):
    for number in (1, 2):
        node.count(*node.answer(number))
    return node.file.with_suffix(".state") / "gradient-memory"


def remove(path):
    path.unlink()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def empty(path):
    path.write_bytes(b"")


def replaced(path):
    path.unlink()
    path.mkdir()


def of_another_form(path):
    """Keep the checksum right, as another release would."""
    _, _, body = path.read_bytes().partition(b"\n")
    body = body.replace(b'"start"', b'"begin"')
    path.write_bytes(sha256(body).hexdigest().encode() + b"\n" + body)


@pytest.mark.parametrize(
    "damage", [remove, flip, cut, empty, replaced, of_another_form], ids=lambda damage: damage.__name__
)
def test_a_memory_that_is_lost_or_damaged_is_said_and_begins_from_nothing(damage, node, caplog):
    path = after_two(node)
    memory, said = lost(node, caplog)
    assert memory.unsent
    assert not said  # control
    damage(path)
    memory, said = lost(node, caplog)
    assert (memory.unsent, memory.scale) == ({}, SCALE)
    assert "lost" in said
    assert str(path) in said


def test_a_memory_of_another_run_or_node_is_dropped_with_a_line(node, caplog):
    after_two(node)
    for change in ({"run": "other"}, {"name": "bob"}):
        other = Node(node.file, **{"run": "run", "name": "ada", **change}, counted=node.counted)
        memory, said = lost(other, caplog)
        assert not memory.unsent
        assert "it belongs to" in said


def test_a_memory_of_other_factors_is_dropped(node, caplog):
    after_two(node)
    with caplog.at_level(logging.WARNING):
        memory = ErrorMemory(node.file, "ada", "run").recall(node.counted, SHAPES | {"b/q": (31, 4)})
    assert not memory.unsent
    assert "of other factors" in caplog.text


def test_a_run_that_went_back_further_than_the_memory_is_said(node, caplog):
    first = node.answer(1)
    node.count(*first)
    early = node.counted
    for number in (2, 3):
        node.count(*node.answer(number))
    node.counted = early
    memory, said = lost(node, caplog)
    assert not memory.unsent
    assert "nothing of the reply of round 1" in said


def test_where_the_server_names_no_reply_nothing_is_kept_and_nothing_is_said(node, caplog):
    after_two(node)
    node.counted = NONE
    memory, said = lost(node, caplog)
    assert (memory.unsent, said) == ({}, "")


def test_a_folder_that_is_not_writable_is_named_with_the_remedy(tmp_path):
    (tmp_path / "ada.state").write_text("a file where the folder should be")
    memory = ErrorMemory(tmp_path / "ada.toml", "ada", "run")
    with pytest.raises(ConfigError, match=r"ada\.state: cannot keep there what this node has not sent"):
        memory.check_writable()
    (tmp_path / "ada.state").unlink()
    memory.check_writable()
    assert (tmp_path / "ada.state").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "ada.state").iterdir()) == []
