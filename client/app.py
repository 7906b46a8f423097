"""Flower's ClientApp: announces the node, trains its assignments, and evaluates the updates that it receives.

It takes one setting, `node`: the path of the node's own file (Flower's simulation passes a number instead). Everything
else about the node comes from that file, never from the server. A second one, `keep`, lets the node keep the global
update on its disk; in a simulation its nodes end together.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.exchange import Exchange, answer_exchange
from client.flower_node_file import node_file
from client.memory.error_memory import ErrorMemory
from client.memory.held_buffers import read_parts
from client.model.base_model import BaseModel
from client.model.lora import Lora
from client.node import LocalNode, attach_lora, describe_node, fingerprint_node, load_node
from client.objectives.examples import different_rows
from client.policy import (
    DeclinedRequest,
    TrainingHistory,
    TrainingRequest,
    draw_violation,
    evaluation_violation,
    gradient_violation,
    outgoing_values,
    rows_violation,
    sums_violation,
    training_violation,
)
from client.questions.answer import Questions, answer_question, rows_behind
from client.results.earlier_run import complete_run
from client.results.keeping import keep
from client.results.report import begin_report
from client.results.saving import saving_of
from client.settings import read_node
from client.training.evaluate import evaluate
from client.training.not_finite import NotFiniteError
from client.training.progress import TrainingLog
from client.training.terms import term_fault
from client.training.train import train
from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter, encode_adapter
from common.adapters.joined import stack_adapters
from common.adapters.link_codecs import MissingBuffer
from common.errors import CodecError, FedloraError, TransportError
from common.heads.requests import ASKS
from common.huggingface.fingerprint_parts import refusal_of
from common.log_format import event
from common.protocol.assignment import Assignment, CountedReply, Training
from common.protocol.messages import (
    ENDED,
    FROZEN,
    RejectionReason,
    RoundId,
    fault_word,
    pack_rounded,
    unpack_assignment,
)
from common.protocol.payload import Payload
from common.protocol.replies import LossReply, TrainReply
from common.settings.node import Policy

ERROR_CODE = 2
"""Flower's code for a client app that failed."""

log = logging.getLogger(__name__)
app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Announce this node for the targets that the server names."""
    return _answer(message, context, _announce)


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Train factors for one round."""
    return _answer(message, context, _train)


@app.evaluate()
def evaluate_round(message: Message, context: Context) -> Message:
    """Evaluate a global update on the rows that this node holds out."""
    return _answer(message, context, _evaluate)


Values = Mapping[str, Any]
Work = Callable[[Path, Payload], tuple[Values, bytes]]


def _answer(message: Message, context: Context, work: Work) -> Message:
    """Return the reply to a message, or an error with the reason word."""
    try:
        file, kind = _node_file(context), message.metadata.message_type
        with _reading():
            received = Payload.from_message(message)
            payload = read_parts(received, kind, file)
        values, blob = work(file, payload)
        if context.node_config.get("keep"):
            values = keep(file, kind, payload, values, str(context.node_config.get("project", "")))
            if saving_of(file).take(kind, payload, values, len(blob), received.size):
                begin_report(file)
        return Message(Payload(outgoing_values(values), blob).to_records(), reply_to=message)
    except Exception as error:  # Flower would send the text of an uncaught exception to the server.
        return _error_reply(message, error)


@contextmanager
def _reading() -> Iterator[None]:
    """Let what a request of another form makes Python raise be an error of ours, of which no traceback is logged."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TransportError(f"the request has another form ({error!r}); use the same release on both sides") from None


_WORDS: Mapping[type[Exception], RejectionReason] = {
    CodecError: "codec",
    MissingBuffer: "missing",
    NotFiniteError: "nan",
}


def _error_reply(message: Message, error: Exception) -> Message:
    """Return an error with only a fixed word: the full text stays in the node's own log."""
    reason = error.reason if isinstance(error, DeclinedRequest) else _WORDS.get(type(error)) or fault_word(error)
    kind, trace = message.metadata.message_type, None if isinstance(error, FedloraError | DeclinedRequest) else error
    level = logging.INFO if reason == "missing" else logging.ERROR  # The server sends the factors again.
    log.log(level, "declined a %s message, %s: %s", kind, reason, error, exc_info=trace)
    return Message(Error(ERROR_CODE, reason), reply_to=message)


def _node_file(context: Context) -> Path:
    config = context.node_config
    if "node" in config:
        return Path(str(config["node"]))
    return node_file(int(config["partition-id"]), int(config["num-partitions"]), str(context.run_config.get("run")))


def _announce(file: Path, asked: Payload) -> tuple[Values, bytes]:
    with _reading():
        targets = _targets(asked.values["targets"])
        begun = _targets(asked.values.get("begun", []))
        if kind := asked.values.get("gradients"):
            _decline(file, gradient_violation(_policy(file), kind))
        if asked.values.get("class_sums"):
            _decline(file, sums_violation(_policy(file)))
    node = load_node(file)
    if kind == "compressed-gradient":
        ErrorMemory(file, node.settings.name, "").check_writable()
    announced = describe_node(node, targets, begun)
    with _reading():
        refusal = refusal_of(asked.values, announced.to_values())
    if refusal:
        log.error("the server will refuse this node: %s; compare %s with its operator's base.toml", refusal, file)
    return announced.to_values(), b""


def _targets(asked: Any) -> str | tuple[str, ...]:
    if not isinstance(asked, str) and not all(isinstance(name, str) for name in asked):
        raise TypeError("a target is not a name")
    return asked if isinstance(asked, str) else tuple(asked)


def _train(file: Path, asked: Payload) -> tuple[Values, bytes]:
    with _reading():
        assignment = unpack_assignment(asked.values, asked.blob, asked.parts)
        if assignment.returns == "compressed-gradient":
            _check_parent(asked, encode_adapter(stack_adapters(assignment.frozen, assignment.start)))
        else:
            _check_frozen(asked)
        round_id, training = RoundId.from_values(asked.values), Training.from_values(asked.values)
        stated = asked.values.get("cohort", 0), asked.values.get("phases", 1)
        _check_policy(file, TrainingRequest(round_id, assignment, training, *stated))
    node = load_node(file)
    rows = partial(different_rows, node.train, assignment, training, node.settings.name)
    _decline(file, draw_violation(training, len(node.train) + len(node.held)) or rows_violation(_policy(file), rows))
    skeleton, lora = _attach(node, round_id, assignment.start)
    _log_start(round_id, training, assignment, node.settings.rank)
    # Recorded before the training, so that the policy also counts one that is abandoned.
    _trainings(file).append((time.monotonic(), round_id))
    watch = TrainingLog(training)
    if assignment.returns == "compressed-gradient":
        counted = CountedReply.from_values(asked.values)
        return answer_exchange(file, node, Exchange(round_id, assignment, training, counted), skeleton, lora, watch)
    (update,) = train(skeleton, lora, [assignment], [node.settings.name], [node.train], training, watch)
    own = round_id.to_values()
    reply = TrainReply(**own, examples=update.examples, tokens=update.tokens, loss=update.loss)
    return reply.to_values(), pack_rounded(update, assignment, training.stream_key(node.settings.name))


def _log_start(round_id: RoundId, training: Training, assignment: Assignment, own: int) -> None:
    what = "steps" if assignment.returns == "update" else "batches for a gradient"
    rank = assignment.sent_rank
    lower = f", the run's largest; the node's own is {own}" if rank < own else ""
    extra = event("training", round=round_id.round, steps=len(training.learning_rates), rank=rank)
    log.info(
        "round %s: %s %s at rank %s%s", round_id.round, len(training.learning_rates), what, rank, lower, extra=extra
    )


def _check_frozen(asked: Payload) -> None:
    """Decline frozen factors that are not those that the round starts from."""
    if FROZEN in asked.parts:
        _check_parent(asked, asked.parts[FROZEN])


def _check_parent(asked: Payload, buffer: bytes) -> None:
    """Decline a global update of which the stated parent is not the hash."""
    found, stated = sha256(buffer).hexdigest(), str(asked.values["parent"])
    if found != stated:
        what = f"the frozen factors have SHA-256 {found:.12}, but the round starts from {stated[:12]!a}"
        raise DeclinedRequest("policy", f"{what}: the server contradicts itself; ask its operator")


def _check_policy(file: Path, request: TrainingRequest) -> None:
    _decline(file, training_violation(_policy(file), request, _history(file)))
    if fault := term_fault(request.assignment):
        raise DeclinedRequest("policy", f"{fault}; use the server's release")


def _decline(file: Path, text: str | None) -> None:
    if text:
        raise DeclinedRequest("policy", f"{file}: {text}; change the limit there, or ask the operator for less")


@cache
def _policy(file: Path) -> Policy:
    """Return the policy of the node with this file, read once per process."""
    return read_node(file).policy


def _history(file: Path) -> TrainingHistory:
    begun = _trainings(file)
    return TrainingHistory(len(begun), time.monotonic() - begun[-1][0], begun[-1][1]) if begun else TrainingHistory()


@cache
def _trainings(file: Path) -> list[tuple[float, RoundId]]:
    """Return the node's trainings in this process: start in seconds of the monotonic clock, and round."""
    return []


def _evaluate(file: Path, asked: Payload) -> tuple[Values, bytes]:
    if ENDED in asked.values and FROZEN not in asked.parts:
        with _reading():
            round_id = RoundId.from_values(asked.values)
        complete_run(file, round_id, asked)
        return round_id.to_values(), b""
    with _reading():
        _check_frozen(asked)
        adapter, round_id = decode_adapter(asked.parts[FROZEN]), RoundId.from_values(asked.values)
        _decline(file, evaluation_violation(_policy(file), round_id, adapter))
    node = load_node(file)
    skeleton, lora = _attach(node, round_id, adapter)
    if ENDED in asked.values:  # It is saved, not measured.
        return round_id.to_values(), b""
    if ASKS in asked.values:
        _decline(file, _questions(file).violation(_policy(file), round_id, asked))
        _decline(file, rows_violation(_policy(file), partial(rows_behind, node, asked)))
        return answer_question(node, skeleton, lora, adapter, round_id, asked)
    score = evaluate(skeleton, lora, adapter, node.held)
    return LossReply(**round_id.to_values(), loss=score.loss, count=score.count).to_values(), b""


@cache
def _questions(file: Path) -> Questions:
    """Return the questions that this process has answered."""
    return Questions()


def _attach(node: LocalNode, round_id: RoundId, adapter: Adapter) -> tuple[BaseModel, Lora]:
    """Return the node's model, ready for an adapter on these modules; decline a round for another base."""
    modules = tuple(adapter)
    asked, own = round_id.base, fingerprint_node(node.settings, modules)
    if asked != own:
        raise DeclinedRequest(
            "base", f"requested is base {asked!r}, this node has {own}: weights, tokenizer, targets or task differ"
        )
    return attach_lora(node.base, modules)
