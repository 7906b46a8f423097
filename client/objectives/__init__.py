"""Training objectives, one for each task: from rows to batches, loss and score. Registry by name of the task."""

from client.objectives.base import Objective
from client.objectives.causal_lm import CausalLM
from client.objectives.classification import Classification
from client.objectives.preference import Preference
from client.objectives.problem_types import PROBLEMS
from client.objectives.seq2seq import Seq2Seq
from common.settings.node import NodeData
from common.settings.tasks import TASKS

OBJECTIVES: dict[str, type[Objective]] = {
    "classification": Classification,
    "causal-lm": CausalLM,
    "preference": Preference,
    "seq2seq": Seq2Seq,
}


def create_objective(data: NodeData) -> Objective:
    """Make the objective of the task of this data."""
    other = PROBLEMS.get(data.problem_type) if TASKS[data.task].labels else None
    return (other or OBJECTIVES[data.task])(data)


__all__ = ["OBJECTIVES", "Objective", "create_objective"]
