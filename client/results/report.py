"""What a node's owner is told as a run ends: `report.html` and the receipts, in the run's folder at the node."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

from client.node import LocalNode, attach_lora, load_node
from client.objectives.examples import count_predictions
from client.results.alone import Alone, read_alone, train_alone
from client.results.folder import NodeFolder
from client.results.receipts import copy_receipts
from client.results.saved_adapter import SavedUpdate
from client.results.saving import saving_of
from client.training.evaluate import Score, evaluate
from common.adapters.adapter import Adapter, zeros
from common.adapters.codec import decode_adapter
from common.errors import FedloraError
from common.huggingface.base_folder import public_name
from common.identity.credentials import load_node_credentials
from common.log_format import event
from common.report.node_page import Compared, Learned, NodeReport, Share, write_node_page
from common.report.records import BY_PROBLEM
from common.settings.tasks import TASKS, problem_of

SENT = (
    (("rank", "rows", "predictions"), "the node's rank, and how many rows and predictions it has"),
    (("skipped",), "how many rows it leaves out, as they cannot be used; only with skip_bad_rows"),
    (("parts", "part_values"), "short hashes and texts by which a difference of base, tokenizer or labels is named"),
    (
        (
            *("fingerprint", "task", "problem_type", "modules", "d", "k", "embeddings"),
            *("head", "head_last", "head_bias"),
        ),
        "what it trains on",
    ),
    (
        ("name", "held", "held_ranks", "saves", "unfinished"),
        "its name, which global update it has kept, and unfinished runs",
    ),
    (("run", "round", "attempt", "phase", "parent", "base"), "the request that a reply is for, as the server wrote it"),
    (("examples", "tokens", "loss", "noise"), "rows and tokens of a training, its mean loss, and a gradient's noise"),
    (("count", "losses", "left_out"), "the number of held-out predictions, losses on them, and rows left out of sums"),
    (
        ("energies", "parameters"),
        "for ranks under a budget: the clipped energy of each module's gradient, and the parameters of the base",
    ),
    (("factors",), "matrices A and B of each reply"),
    (("roster", "nonce", "signature"), "what signs a reply"),
)
"""Values that may leave a node, and what they are."""

log = logging.getLogger(__name__)


def end_run(file: Path, local: bool = False) -> None:
    """Write receipts and `report.html` of the run that this process has taken part in, if the node saves runs.

    Also those of earlier runs whose last update came meanwhile. An error is logged: the adapter is saved already.

    Args:
        file: of the node.
        local: then train alone too, and write each page again with what that gave.
    """
    saving = saving_of(file)
    if saving.reporting:
        saving.reporting.join()
    for folder in (*saving.completed.values(), *([saving.folder] if saving.folder else [])):
        _end(file, folder, local)
    saving.completed.clear()


def begin_report(file: Path) -> None:
    """Begin to write receipts and `report.html` of a run that has ended.

    Its server waits for the reply to what it has sent last, and may then stay for other nodes for days.
    """
    saving = saving_of(file)
    if saving.folder and not (saving.reporting and saving.reporting.is_alive()):
        saving.reporting = Thread(target=_end, args=(file, saving.folder, False))
        saving.reporting.start()


def _end(file: Path, folder: NodeFolder, local: bool) -> None:
    saving = saving_of(file)
    try:
        if update := folder.update:
            node = load_node(file)
            if saving.reported != update:
                _tell(folder, node, update)
            saving.reported = update
            if local and _add_alone(folder, node, update):
                _tell(folder, node, update)
    except (FedloraError, OSError) as error:
        log.warning("the report of the run is not written: %s", error, extra=event("not-saved", reason=str(error)))


def _tell(folder: NodeFolder, node: LocalNode, update: SavedUpdate) -> None:
    path = write_report(folder, node, update)
    log.info("what the run did for this node: %s", path, extra=event("reported", path=str(path)))


def _add_alone(folder: NodeFolder, node: LocalNode, update: SavedUpdate) -> bool:
    """Train alone, unless that is done, and return whether the page has more to tell now."""
    if read_alone(folder):
        return False
    try:
        found = train_alone(folder, node, update.round)
    except Exception as error:  # As an accelerator without memory left; the page is there, and the run is over.
        log.warning("nothing was trained alone: %s", error, extra=event("alone-failed", reason=str(error)))
        return False
    told = {"steps": found.steps, "loss": found.loss, "score": found.score}
    log.info("alone: loss %.3f on the held-out rows", found.loss, extra=event("trained-alone", **told))
    return True


def write_report(folder: NodeFolder, node: LocalNode, update: SavedUpdate) -> Path:
    """Write receipts and page, and return the path of the page.

    Raises:
        FedloraError, OSError: something cannot be read or written.
    """
    receipts = copy_receipts(folder, node.settings)
    return write_node_page(folder.path, _report(folder, node, update, receipts))


def _report(
    folder: NodeFolder, node: LocalNode, update: SavedUpdate, receipts: Sequence[Mapping[str, Any]]
) -> NodeReport:
    history, settings = folder.history(), node.settings
    adapter = decode_adapter(update.buffer).astype("f4")
    base, together = _score(node, zeros(adapter.shapes, rank=1)), _score(node, adapter)
    alone, unit = read_alone(folder), "token" if TASKS[settings.data.task].generates else "row"
    measure = BY_PROBLEM[problem_of(settings.data)]
    return NodeReport(
        settings.name,
        folder.name,
        load_node_credentials(Path(settings.keys), settings.name).project if settings.keys else "",
        public_name(settings.base.path),
        rounds=_learned(history),
        loss=_compared("loss", base, together, alone),
        score=_compared("score", base, together, alone),
        alone=alone.description if alone else "",
        shares=[Share(each["round"], each["weight"], each.get("clip") or 1.0) for each in receipts],
        bytes_up=sum(line.get("up", 0) for line in history),
        bytes_down=sum(line.get("down", 0) for line in history),
        sent=[(", ".join(names), meaning) for names, meaning in SENT],
        adapter=update.digest,
        receipts=len(receipts),
        warnings=[] if update.signature else [_UNSIGNED.format(update.round)],
        skipped=len(node.train.found.skipped),
        measure=measure,
        loss_unit=f"nats a {unit}" if measure.loss == "nats" else measure.loss,
    )


_UNSIGNED = (
    "The saved global update is that of round {}, and the server has not signed it as the run's last: the node gets "
    "the last one when it connects again."
)


def _compared(measure: str, *found: Score | Alone | None) -> Compared:
    """Return a measure of base, update and training alone; None where there is none."""
    return Compared(*(None if each is None else getattr(each, measure) for each in found))


def _score(node: LocalNode, adapter: Adapter) -> Score | None:
    """Return what an adapter gives on the held-out rows; None if no prediction of theirs carries loss."""
    if not len(node.held) or not count_predictions(node.held):
        return None
    skeleton, lora = attach_lora(node.base, tuple(adapter))
    return evaluate(skeleton, lora, adapter, node.held)


def _learned(history: Sequence[Mapping[str, Any]]) -> list[Learned]:
    """Return what is known of each round; of a round that was repeated, what came last."""
    losses = {line["round"]: line["loss"] for line in history if line.get("kind") == "evaluate" and "loss" in line}
    rows = {line["round"]: line["examples"] for line in history if line.get("kind") == "train" and "examples" in line}
    return [Learned(number, losses.get(number), rows.get(number, 0)) for number in sorted({*losses, *rows})]
