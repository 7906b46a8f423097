from client.model.base_model import AUTO_MODELS
from client.objectives import OBJECTIVES
from common.settings.tasks import TASKS


def test_each_task_has_an_objective_and_a_kind_of_model():
    assert OBJECTIVES.keys() == TASKS.keys()
    assert {task.peft for task in TASKS.values()} <= AUTO_MODELS.keys()
