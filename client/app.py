"""Flower's ClientApp: says who the node is, trains what it is assigned, and measures what it is sent.

Whoever starts it gives one setting, `node`: the path of the node's own file; Flower's simulation gives a number
instead. Everything else about the node comes from that file, never from the server.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.loss import evaluate
from client.model import BaseModel
from client.node import LocalNode, adapted, announce, fingerprint_of, load_node
from client.partition import file_of
from client.train import train
from common.adapter import Adapter
from common.codec import decode
from common.errors import CodecError
from common.lora import Lora
from common.messages import ADAPTER_STYPE, order_of, pack_update, training_of, unpack_assignment

ERROR_CODE = 2
"""Flower's code for a client app that failed."""

log = logging.getLogger(__name__)
app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Who this node is, for the targets that the server names."""
    return _answer(message, context, _announce)


@app.train()
def train_round(message: Message, context: Context) -> Message:
    """Factors trained for one round."""
    return _answer(message, context, _train)


@app.evaluate()
def evaluate_round(message: Message, context: Context) -> Message:
    """The loss of a global update on the rows that this node holds out."""
    return _answer(message, context, _evaluate)


class OtherBase(Exception):
    """The order is for another base model, tokenizer, targets, task or labels."""


Values = Mapping[str, Any]
Work = Callable[[LocalNode, Values, bytes], tuple[Values, bytes]]


def _answer(message: Message, context: Context, work: Work) -> Message:
    """The reply to a message; of an error only a fixed word leaves the node, its text stays in the node's own log."""
    try:
        node = load_node(_node_file(context))
        values, blob = work(node, message.content.config_records["values"], _blob(message.content))
    except CodecError:
        return Message(Error(ERROR_CODE, "codec"), reply_to=message)
    except OtherBase:
        return Message(Error(ERROR_CODE, "base"), reply_to=message)
    except Exception as error:  # Flower would send the text of any that passes here to the server.
        log.error("refused a %s message: %s", message.metadata.message_type, error, exc_info=error)
        return Message(Error(ERROR_CODE, "failed"), reply_to=message)
    content = RecordDict({"values": ConfigRecord(dict(values))})
    if blob:
        content["adapter"] = ArrayRecord({"adapter": Array("uint8", (len(blob),), ADAPTER_STYPE, blob)})
    return Message(content, reply_to=message)


def _node_file(context: Context) -> Path:
    config = context.node_config
    if "node" in config:
        return Path(str(config["node"]))
    return file_of(int(config["partition-id"]), int(config["num-partitions"]), str(context.run_config.get("run")))


def _blob(content: RecordDict) -> bytes:
    records = content.array_records
    return records["adapter"]["adapter"].data if "adapter" in records else b""


def _announce(node: LocalNode, values: Values, blob: bytes) -> tuple[Values, bytes]:
    targets = values["targets"]
    return announce(node, targets if isinstance(targets, str) else tuple(targets)).values(), b""


def _train(node: LocalNode, values: Values, blob: bytes) -> tuple[Values, bytes]:
    assignment = unpack_assignment(blob, values["trains"], values["scaling"])
    skeleton, lora = _adapted(node, values, assignment.start)
    name = node.settings.name
    (update,) = train(skeleton, lora, [assignment], [name], [node.train], training_of(values))
    counts = {"examples": update.examples, "tokens": update.tokens, "loss": update.loss}
    return vars(order_of(values)) | counts, pack_update(update, assignment.trains)


def _evaluate(node: LocalNode, values: Values, blob: bytes) -> tuple[Values, bytes]:
    adapter: Adapter = decode(blob)
    skeleton, lora = _adapted(node, values, adapter)
    score = evaluate(skeleton, lora, adapter, node.held)
    return vars(order_of(values)) | {"loss": score.loss, "count": score.count}, b""


def _adapted(node: LocalNode, values: Values, adapter: Adapter) -> tuple[BaseModel, Lora]:
    """The node's model, ready for an adapter on these modules, if the order is for this base."""
    modules = tuple(adapter)
    if order_of(values).base != fingerprint_of(node, modules):
        raise OtherBase
    return adapted(node.base, modules)
