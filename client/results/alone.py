"""What a node's own rows give without the others: a training alone, with the compute that the node gave to the run.

One AdamW, from where the run began, and a step for each batch of the run: the owner's own fine-tuning with the run's
settings. Terms that hold a node near the others have no place in it. Nothing of it is sent, and no factors are kept.
"""

import logging
from dataclasses import asdict, dataclass, fields, replace

from client.node import LocalNode, attach_lora
from client.objectives.examples import count_predictions
from client.questions.closed_form_head import own_head
from client.results.folder import NodeFolder
from client.results.given import asked_gram, given_training, read_beginning
from client.training.evaluate import Score, evaluate
from client.training.not_finite import NotFiniteError
from client.training.progress import TrainingLog
from client.training.train import train
from common.adapters.joined import ReplacedModule, stack_adapters
from common.errors import RunError
from common.log_format import event
from common.protocol.assignment import Assignment, Training

ALONE = "alone"
"""Kind of the history's line on a training alone."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alone:
    """A training alone, and what it gave on the node's held-out rows.

    Args:
        round: of the run that it is set beside, the last.
        steps: of its optimizer.
        rank: of its factors.
        is_of_base: it began at the base, as the node does not know what the run began with.
        has_own_head: it began with a head in closed form of the node's own rows.
        loss: on these rows, and the task's `score`, None if it has none; `count` predictions.
    """

    round: int
    steps: int
    rank: int
    is_of_base: bool
    has_own_head: bool
    loss: float
    score: float | None
    count: int

    @property
    def description(self) -> str:
        """What was trained, in one sentence for the owner."""
        begun = "the base, as the node was first asked after round 1" if self.is_of_base else "where the run began"
        head = ", with a head in closed form of these rows" if self.has_own_head else ""
        return (
            f"Trained alone: {self.steps} AdamW steps at rank {self.rank} on this node's own rows, from {begun}{head}; "
            "one for each batch that the node trained on, or computed a gradient of, for the run, of as many rows and "
            "at its rate. Nothing of it was sent."
        )


def read_alone(folder: NodeFolder) -> Alone | None:
    """Return the training alone that is recorded, unless the node has trained in the run since."""
    for line in reversed(folder.history()):
        if line.get("kind") == "train":
            return None
        if line.get("kind") == ALONE:
            told = {"score": line.get("accuracy"), **line}  # An earlier release had only that score.
            return Alone(**{each.name: told[each.name] for each in fields(Alone)})
    return None


def train_alone(folder: NodeFolder, node: LocalNode, number: int) -> Alone:
    """Train alone as much as the node gave to the run until round `number`, and record what that gave.

    Raises:
        RunError: the node was in no round, or the training diverged.
        FedloraError, OSError, ValueError: what the run began with cannot be read.
    """
    history, begun = folder.history(), read_beginning(folder)
    training, gram = given_training(history, begun.training, number), asked_gram(history)
    steps, rank = len(training.learning_rates), begun.assignment.start.rank
    if not steps:
        raise RunError("this node has trained in no round of the run")
    if not len(node.held) or not count_predictions(node.held):
        raise RunError("this node holds out no row that carries loss, on which it could be measured")
    text = "training alone, for the report: %s steps at rank %s as in the run; nothing is sent, Ctrl-C leaves it out"
    log.info(text, steps, rank, extra=event("alone", steps=steps, rank=rank))
    try:
        score = measure_alone(node, _with_own_head(node, begun.assignment, gram), training)
    except NotFiniteError as error:
        raise RunError(f"the training alone diverged: {error}") from None
    found = Alone(number, steps, rank, begun.is_of_base, gram is not None, score.loss, score.score, score.count)
    folder.record(kind=ALONE, **asdict(found))
    return found


def measure_alone(node: LocalNode, assignment: Assignment, training: Training) -> Score:
    """Return what training an assignment on the node's rows gives on those that it holds out."""
    base, lora = attach_lora(node.base, tuple(assignment.start))
    watch = TrainingLog(training, title=ALONE)
    (update,) = train(base, lora, [assignment], [node.settings.name], [node.train], training, watch)
    return evaluate(base, lora, stack_adapters(assignment.frozen, update.adapter), node.held)


def _with_own_head(node: LocalNode, assignment: Assignment, gram: bool | None) -> Assignment:
    """Return the assignment with a head in closed form of the node's own rows, where the run had one of all."""
    if gram is None:
        return assignment
    base, lora = attach_lora(node.base, tuple(assignment.start))
    head = own_head(base, lora, assignment.frozen, node.train, node.held, len(node.settings.data.labels), gram)
    return replace(assignment, frozen=ReplacedModule(assignment.frozen, base.head[-1].name, head))
