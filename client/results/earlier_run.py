"""The last update of an earlier run, which the server of a later one sends to a node that was away as it ended."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from client.node import fingerprint_node, load_node
from client.policy import DeclinedRequest, evaluation_violation
from client.results.folder import NodeFolder
from client.results.saved_adapter import SavedUpdate
from client.results.saving import saving_of
from client.settings import read_node
from common.adapters.adapter import Adapter
from common.adapters.codec import decode_adapter
from common.protocol.messages import ENDED, RoundId
from common.protocol.payload import Payload
from common.settings.node import NodeData
from common.settings.tasks import problem_of


def complete_run(file: Path, round_id: RoundId, asked: Payload) -> None:
    """Save the last update of an earlier run in the folder that the node with this file has of it.

    Its signature was checked as the request came.

    Raises:
        DeclinedRequest: the node has no such folder, or the update is not what was signed, is above the owner's limits,
            or is for another base than the node has now.
        FedloraError: it cannot be read or saved.
    """
    saving = saving_of(file)
    if (folder := saving.unfinished().get(round_id.run)) is None:
        raise DeclinedRequest("policy", f"no folder of this node lacks the last update of run {round_id.run[:12]!a}")
    if sha256(asked.blob).hexdigest() != round_id.parent:
        raise DeclinedRequest("policy", f"what was sent for {folder.path} is not the update that the server signed")
    adapter = decode_adapter(asked.blob)
    _check_limits(file, folder, round_id, adapter)
    _check_base(file, folder, round_id, adapter)
    saving.complete(folder, SavedUpdate(round_id.round, asked.blob, asked.values[ENDED]))


def _check_limits(file: Path, folder: NodeFolder, round_id: RoundId, adapter: Adapter) -> None:
    """Check the owner's limits: those of the run's own time on what it trains, and today's on memory."""
    policy = replace(folder.node.policy, max_bytes=read_node(file).policy.max_bytes)
    if text := evaluation_violation(policy, round_id, adapter):
        raise DeclinedRequest("policy", f"{folder.settings}: {text}; change the limit in {file}, or there")


def _what(data: NodeData) -> tuple[str, str, tuple[str, ...]]:
    return data.task, problem_of(data), data.labels


def _check_base(file: Path, folder: NodeFolder, round_id: RoundId, adapter: Adapter) -> None:
    """Check that the node's base is still that of the run, so that none is loaded beside it."""
    now, then = load_node(file).settings, folder.node
    own = ""
    if _what(now.data) == _what(then.data):
        own = fingerprint_node(replace(then, base=now.base), tuple(adapter))
    if own != round_id.base:
        raise DeclinedRequest(
            "base",
            f"the base, tokenizer, task or labels of {file} are no longer those of {folder.path}: set them as in "
            f"{folder.settings} for one start, and the node gets the run's last update",
        )
