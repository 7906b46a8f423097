"""A node's signatures, and its audit of the server's log: it contains the node's updates, and its rounds follow."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from client.network.round_order import RoundOrder
from client.network.sent_update import SentUpdate
from client.network.told_rounds import ToldRounds, append_line
from common.identity import credentials
from common.identity.credentials import NodeCredentials
from common.identity.documents import signatures
from common.identity.documents.signatures import Ending, Receipt, Return, Statement
from common.log_format import event
from common.protocol.messages import ENDED
from common.protocol.payload import Payload
from common.protocol.round_notice import RoundNotice

_OUTSIDE = {
    "base": "its base model, tokenizer, targets or labels, or its task, max_length or beta, are not those of the run: "
    "it said which as it connected",
    "name": "its name is taken",
    "rank": "its rank is above the largest that the run began with",
    "shape": "its modules are not those of the run",
}
"""Meaning of the reason word for a node from which no update was requested."""

log = logging.getLogger(__name__)


class LogAuditor:
    """Signs each reply, follows the server's notices, and logs where they contradict each other or the replies.

    Args:
        folder: the node's keys; the newest roster is kept there, receipts in `NAME.receipts`, as JSON Lines, and what
            the server told of its rounds in `NAME.rounds`; `NAME.sent` is the update that has no receipt yet.
        own: the node's credentials.

    Raises:
        IdentityError: `NAME.rounds` cannot be used.
    """

    def __init__(self, folder: Path, own: NodeCredentials) -> None:
        self._folder, self._own = folder, own
        self._sent_file = folder / f"{own.name}.sent"
        self._sent = SentUpdate.read(self._sent_file)
        self._order = RoundOrder(ToldRounds(folder / f"{own.name}.rounds"), self._is_return)

    def on_connect(self) -> None:
        """Begin a connection."""
        self._order.on_connect()

    def sign(self, reply: Payload) -> dict[str, Any]:
        """Return the values that sign a reply."""
        if reply.blob and "examples" in reply.values:  # an update; class sums are in no sum of updates
            self._sent = SentUpdate(reply.values["run"], reply.values["round"], reply.blob_hash)
            self._sent.write(self._sent_file)
        own = self._own
        return signatures.sign_reply(
            reply.values, reply.blob_hash, own.project, own.name, own.roster.version, own.signing_key
        )

    def on_request(self, kind: str, values: Mapping[str, Any]) -> str | None:
        """Return why a request does not follow from what the server has told of its rounds, or None."""
        if ENDED in values:
            return self._ending_fault(values)
        return self._order.request_fault(kind, values)

    def _ending_fault(self, values: Mapping[str, Any]) -> str | None:
        """Return why the last global update of a run is not to be saved, or None."""
        run, number, parent, signature = (values.get(key) for key in ("run", "round", "parent", ENDED))
        texts = all(isinstance(text, str) for text in (run, parent, signature))
        if texts and type(number) is int:
            ending = Ending(project=self._own.project, run=str(run), round=number, adapter_hash=str(parent))
            if _is_signed(ending, str(signature), self._own):
                return self._order.ending_fault(ending.run, number, ending.adapter_hash)
        return "the last global update is not signed by the server's key; ask its operator"

    def on_notice(self, values: Mapping[str, Any], blob: bytes) -> None:
        """Process a notice: of a roster, which is a blob, or of a round.

        Raises:
            IdentityError: the roster is not the project's, older than the last one, or bars this node.
            TransportError: the notice is malformed.
        """
        if blob:
            self._own = credentials.pin_newer_roster(self._folder, self._own, blob)
            return
        notice = RoundNotice.from_values(values)
        if fault := self._order.follow(notice):
            log.error("the server contradicts itself: %s", fault, extra=event("audit-failed"))
            return
        if (sent := self._sent) and notice.run == sent.run and notice.round < sent.round - 1:
            self._forget_sent()  # the run went back
        if notice.reason and not self._sent:
            log.warning("round %s ran without this node: %s", notice.round, _OUTSIDE.get(notice.reason, notice.reason))
        # A later round, or another run, shows that the notice of the sent update's round was lost.
        if (sent := self._sent) and (notice.run != sent.run or notice.round >= sent.round):
            self._check_update(notice, sent)
            self._forget_sent()

    def _forget_sent(self) -> None:
        self._sent = None
        SentUpdate.forget(self._sent_file)

    def _check_update(self, notice: RoundNotice, sent: SentUpdate) -> None:
        if (notice.run, notice.round) != (sent.run, sent.round):
            log.warning("round %s: the server did not report whether this node's update counts", sent.round)
        elif notice.reason:
            extra = event("update-rejected", round=notice.round, reason=notice.reason)
            log.warning("round %s: this node's update does not count: %s", notice.round, notice.reason, extra=extra)
        elif sent.blob_hash not in notice.updates:
            what = f"round {notice.round}: this node's update {sent.blob_hash:.12}"
            log.error(
                "%s is missing from the server's log, which gives no reason; unless it was for an attempt that "
                "the server abandoned, ask its operator",
                what,
            )
        else:
            self._keep(self._receipt(notice, sent), notice.signature)

    def _receipt(self, notice: RoundNotice, sent: SentUpdate) -> Receipt:
        return Receipt(
            project=self._own.project,
            run=notice.run,
            round=notice.round,
            node=self._own.name,
            blob_hash=sent.blob_hash,
            weight=notice.weight,
            adapter_hash=notice.adapter,
            clip=notice.clip,
        )

    def _is_return(self, run: str, number: int, adapter: str, signature: str) -> bool:
        statement = Return(project=self._own.project, run=run, round=number, adapter_hash=adapter)
        return _is_signed(statement, signature, self._own)

    def _keep(self, receipt: Receipt, signature: str) -> None:
        if not _is_signed(receipt, signature, self._own):
            log.error("round %s: the receipt for this node's update is not signed by the server's key", receipt.round)
            return
        clip = 1.0 if receipt.clip is None else receipt.clip
        clipped = f", clipped to {clip:.3g} of its length" if clip < 1 else ""
        extra = event("update-counts", round=receipt.round, weight=receipt.weight)
        log.info("round %s: the update counts with weight %.3g%s", receipt.round, receipt.weight, clipped, extra=extra)
        try:
            line = json.dumps(asdict(receipt) | {"signature": signature}).encode() + b"\n"
            append_line(self._folder / f"{receipt.node}.receipts", line)
        except OSError as error:
            log.error("the receipt for round %s cannot be kept: %s", receipt.round, error)


def _is_signed(statement: Statement, signature: str, own: NodeCredentials) -> bool:
    try:
        return signatures.verify_signature(statement, bytes.fromhex(signature), own.receipt_public_key)
    except ValueError:
        return False
