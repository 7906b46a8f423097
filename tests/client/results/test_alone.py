"""A training alone, through the node's own app: what the server asked of the node is what it trains on by itself."""

import logging
import re
from dataclasses import asdict, replace
from hashlib import sha256
from html import unescape

import numpy as np
import pytest

from client.node import attach_lora, load_node
from client.questions.closed_form_head import own_head
from client.results.alone import measure_alone, read_alone, train_alone
from client.results.given import read_beginning
from client.results.report import end_run, write_report
from client.results.saving import saving_of
from client.training.evaluate import evaluate
from client.training.train import train
from common.adapters.adapter import Adapter, Factors, zeros
from common.adapters.codec import encode_adapter
from common.adapters.joined import ReplacedModule, stack_adapters
from common.errors import RunError
from common.protocol.assignment import Assignment, Training
from tests.helpers.client.nodes import write_node
from tests.helpers.client.server import Server, ask, values_of
from tests.helpers.client.training import PLAIN
from tests.helpers.common.models import random_adapter

ROUNDS = 2


def ordered(server, number):
    return replace(server.order, round=number)


def joined(server):
    """Let the node begin the folder of the run, and return it."""
    asked = {"targets": "query-value", "run": server.order.run, "run_name": "first"}
    assert values_of(ask(server.file, "query", asked, keep=True))["saves"]
    return saving_of(server.file).folder


def ended(server, number=ROUNDS):
    """Let the node save what the run ended with."""
    update = encode_adapter(random_adapter(server.node.model.shapes, (3,), 5))
    order = replace(server.order, round=number, parent=sha256(update).hexdigest())
    values_of(ask(server.file, "evaluate", asdict(order) | {"ended": "ab"}, parts={"frozen": update}, keep=True))


def run(server, numbers=(1, 2)):
    """Let the node take part in these rounds of a run that ends; return its folder."""
    folder = joined(server)
    for number in numbers:
        values_of(server.train(round_id=ordered(server, number), keep=True))
    ended(server)
    return folder


def column(folder):
    """Return what the page shows of a training alone: its loss and its accuracy."""
    page = (folder.path / "report.html").read_text()
    row = page.partition('<th scope="row">Trained alone</th>')[2].partition("</tr>")[0]
    return re.findall("<td>(.*?)</td>", row)


def by_hand(node, assignment, steps, number=1):
    """Return what these steps give on the rows that the node holds out."""
    base, lora = attach_lora(node.base, tuple(assignment.start))
    training = replace(PLAIN, learning_rates=(1e-2,) * steps, round=number)
    (update,) = train(base, lora, [assignment], [node.settings.name], [node.train], training)
    return evaluate(base, lora, stack_adapters(assignment.frozen, update.adapter), node.held)


@pytest.mark.parametrize(
    ("kind", "task", "dtype"),
    [("bert", "classification", "float32"), ("bert", "classification", "bfloat16"), ("llama", "causal-lm", "float32")],
)
def test_its_loss_is_that_of_the_same_steps_from_where_the_run_began(tmp_path, kind, task, dtype):
    server = Server(write_node(tmp_path, kind, task=task, dtype=dtype))
    folder = run(server)
    end_run(server.file, local=True)
    found, node = read_alone(folder), load_node(server.file)
    assert (found.steps, found.rank, found.is_of_base) == (6, 2, False)
    expected = by_hand(node, server.assignment, 6)
    assert (found.loss, found.score, found.count) == (expected.loss, expected.score, expected.count)
    assert found.loss != by_hand(node, server.assignment, 5).loss  # control
    assert column(folder)[0] == f"{found.loss:.3f}"
    assert found.description in unescape((folder.path / "report.html").read_text())


def test_a_step_is_made_for_each_batch_behind_a_gradient(tmp_path):
    server = Server(write_node(tmp_path, policy={"gradients": True}))
    plain = server.assignment
    server.assignment = replace(plain, returns="compressed-gradient", reply_rank=1)
    parent = encode_adapter(stack_adapters(plain.frozen, plain.start))
    server.order = replace(server.order, parent=sha256(parent).hexdigest())
    folder = run(server)
    end_run(server.file, local=True)
    assert (read_alone(folder).steps, read_alone(folder).rank) == (6, 2)  # of the shared factors
    assert read_alone(folder).loss == by_hand(load_node(server.file), plain, 6).loss


def test_without_the_option_nothing_is_trained_and_the_page_says_how(server):
    folder = run(server)
    end_run(server.file)
    assert read_alone(folder) is None
    assert column(folder) == ["–", "–"]
    assert "--local" in (folder.path / "report.html").read_text()


def test_what_a_node_gave_before_a_restart_counts_too(server):
    folder = joined(server)
    server.train(round_id=ordered(server, 1), keep=True)
    saving_of.cache_clear()
    run(server, (2,))
    end_run(server.file, local=True)
    assert read_alone(folder).steps == 6
    assert read_alone(folder).loss == by_hand(load_node(server.file), server.assignment, 6).loss


def test_a_node_that_came_later_begins_at_the_base_without_what_the_others_had_trained(server):
    folder = run(server, (2,))
    end_run(server.file, local=True)
    start = Adapter({name: Factors(f.a, np.zeros_like(f.b)) for name, f in server.assignment.start.items()})
    base = replace(server.assignment, frozen=zeros(start.shapes), start=start)
    found, node = read_alone(folder), load_node(server.file)
    assert found.loss == by_hand(node, base, 3, 2).loss
    assert found.loss != by_hand(node, server.assignment, 3, 2).loss  # control
    assert "from the base, as the node was first asked after round 1" in found.description


def test_it_is_trained_once_unless_the_run_went_on(server):
    folder = run(server)
    for _ in range(2):
        end_run(server.file, local=True)
    assert sum(line["kind"] == "alone" for line in folder.history()) == 1
    end_run(server.file)  # and stays on the page
    assert "–" not in column(folder)
    server.train(round_id=ordered(server, 2), keep=True)
    assert read_alone(folder) is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "beginning").write_bytes(b"x"), "it was changed or cut"),
        (lambda path: (path / "beginning").unlink(), "does not say where the run began"),
        (lambda path: (path / "history.jsonl").unlink(), "in no round"),
    ],
)
def test_what_goes_wrong_is_a_line_and_the_page_is_there(server, caplog, damage, reason):
    folder = run(server)
    damage(folder.path)
    end_run(server.file, local=True)
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert record.event == "alone-failed"
    assert reason in record.getMessage()
    assert column(folder) == ["–", "–"]


def test_a_node_that_holds_out_nothing_is_told_so_and_trains_nothing_alone(server):
    folder, node = run(server), load_node(server.file)
    nothing = replace(node, held=replace(node.held, rows=()))
    with pytest.raises(RunError, match="holds out no row"):
        train_alone(folder, nothing, ROUNDS)
    page = write_report(folder, nothing, folder.update).read_text()
    assert "No held-out rows were measured" in page
    assert "No held-out rows were measured" not in write_report(folder, node, folder.update).read_text()  # control


def test_it_shows_progress(server, caplog):
    caplog.set_level(logging.INFO)
    run(server)
    end_run(server.file, local=True)
    said = [message for message in caplog.messages if "alone" in message]
    assert said[0].startswith("training alone, for the report: 6 steps at rank 2")
    assert said[1].startswith("alone: step 6 of 6, loss ")
    assert said[2].startswith("alone: loss ")


def test_rows_that_teach_wrong_give_more_loss_than_the_base_and_right_ones_less(tmp_path):
    own = load_node(write_node(tmp_path, rows=200))
    wrong = tuple(replace(row, targets=(row.targets + 1) % 4) for row in own.train.rows)
    misled = replace(own, train=replace(own.train, rows=wrong))
    base, lora = attach_lora(own.base, tuple(shapes := Server(tmp_path / "client.toml").node.model.shapes))
    start = Assignment(
        zeros(shapes), Adapter({n: Factors(f.a, 0 * f.b) for n, f in random_adapter(shapes, (4,), 1).items()})
    )
    before = evaluate(base, lora, zeros(shapes), own.held).loss
    training = Training((1e-2,) * 60, batch=8)
    assert measure_alone(own, start, training).loss < before < measure_alone(misled, start, training).loss


def test_where_the_run_had_a_head_in_closed_form_alone_has_one_of_its_own_rows(tmp_path):
    server = Server(write_node(tmp_path, policy={"class_sums": True}))
    folder = joined(server)
    first = encode_adapter(server.assignment.frozen)
    order = asdict(replace(server.order, round=0, parent=sha256(first).hexdigest()))
    asked = order | {"asks": "class-sums", "gram": True}
    values_of(ask(server.file, "evaluate", asked, parts={"frozen": first}, keep=True))
    run(server)
    end_run(server.file, local=True)
    node, begun, found = load_node(server.file), read_beginning(folder).assignment, read_alone(folder)
    base, lora = attach_lora(node.base, tuple(begun.start))
    head = own_head(base, lora, begun.frozen, node.train, node.held, len(node.settings.data.labels), gram=True)
    own = ReplacedModule(begun.frozen, base.head[-1].name, head)
    assert found.loss == by_hand(node, replace(begun, frozen=own), 6).loss
    assert found.loss != by_hand(node, begun, 6).loss  # control
    assert found.has_own_head
    assert evaluate(base, lora, own, node.train).loss < evaluate(base, lora, begun.frozen, node.train).loss
