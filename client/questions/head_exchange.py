"""A node's part in a head in closed form: sums of its training rows, losses of heads on its held-out rows."""

import logging
from collections.abc import Mapping
from math import isfinite
from typing import Any

from client.model.base_model import BaseModel
from client.model.lora import Lora
from client.node import LocalNode
from client.questions.closed_form_head import class_sums, head_losses
from common.adapters.adapter import Adapter
from common.errors import TransportError
from common.heads.class_sums import pack_sums
from common.heads.requests import (
    ASKS,
    CLASS_SUMS,
    HEAD_LOSSES,
    HEADS,
    MOST_HEADS,
    HeadLossesReply,
    SumsReply,
    temperatures,
    unpack_heads,
)
from common.protocol.messages import RoundId
from common.protocol.payload import Payload

log = logging.getLogger(__name__)
Reply = tuple[Mapping[str, Any], bytes]
_OVERFLOWED = 1e30
"""What is told of a loss that is not finite; JSON has no infinity."""
_DIGITS = 2
"""Decimal places of a summed loss: finer ones would tell of single rows what few candidates differ in."""


def answer_for_head(
    node: LocalNode, base: BaseModel, lora: Lora, adapter: Adapter, round_id: RoundId, asked: Payload
) -> Reply:
    """Return values and buffer of the reply.

    Args:
        node: its rows and policy.
        base: the node's model.
        lora: adapters attached to it.
        adapter: the global update, under which features are computed.
        round_id: of the request.
        asked: the request.

    Raises:
        TransportError: the base has no new head, or the request is of another form.
        CodecError: its heads are malformed.
    """
    if not node.settings.data.has_classes:
        raise TransportError("a head in closed form is requested, but the rows of this node have not one class each")
    if not base.head:
        raise TransportError("a head in closed form is requested, but this base has a head of its own")
    asks = asked.values[ASKS]
    if asks == CLASS_SUMS:
        return _sums(node, base, lora, adapter, round_id, asked.values.get("gram") is True)
    if asks == HEAD_LOSSES:
        return _losses(node, base, lora, adapter, round_id, asked)
    raise TransportError(f"{asks!r:.40} is requested, which this release does not know; use the server's")


def _sums(node: LocalNode, base: BaseModel, lora: Lora, adapter: Adapter, round_id: RoundId, gram: bool) -> Reply:
    classes, floor = len(node.settings.data.labels), node.settings.policy.min_class_rows
    sums, left_out = class_sums(base, lora, adapter, node.train, classes, gram, floor)
    if left_out:
        text = "%s rows are left out of the class sums: their classes have fewer than min_class_rows = %s"
        log.warning(text, left_out, floor)
    reply = SumsReply(**round_id.to_values(), rows=round(sums.rows), left_out=left_out)
    return reply.to_values(), pack_sums(sums)


def _losses(node: LocalNode, base: BaseModel, lora: Lora, adapter: Adapter, round_id: RoundId, asked: Payload) -> Reply:
    heads, divisors = unpack_heads(asked.parts[HEADS]), temperatures(asked.values)
    shape = adapter[base.head[-1].name].shape
    if not 0 < len(heads) <= MOST_HEADS or any(head.shape != shape for head in heads):
        raise TransportError(f"what is to be measured is not 1 to {MOST_HEADS} heads of {shape}; use the same release")
    losses = head_losses(base, lora, adapter, node.held, heads, divisors) if len(node.held) else []
    told = [round(each, _DIGITS) if isfinite(each) else _OVERFLOWED for each in losses]
    return HeadLossesReply(**round_id.to_values(), losses=told, count=len(node.held)).to_values(), b""
