"""Row D12: losses, gradients and scores of sets of labels and of numbers, beside those of Transformers and PEFT."""

import copy

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from client.data.rows import Row
from client.model.base_model import load_base
from client.model.lora import Lane, Lora, branches
from client.model.targets import find_targets
from client.objectives import create_objective
from client.objectives.examples import encode_rows, eval_batches, subset
from client.objectives.scores import R2, Accuracy, MicroF1
from client.training.adapted_model import AdaptedModel
from client.training.evaluate import add_scores, evaluate
from client.training.train import trainable
from common.adapters.adapter import Adapter, Factors
from common.errors import ConfigError, DataError
from common.protocol.assignment import Assignment
from common.settings.node import NodeData
from common.settings.reader import parse_settings
from common.settings.tasks import MULTI, REGRESSION, SINGLE, RowSettings
from simulations.tiny_base import tiny_base
from tests.helpers.client.own_heads import with_own_head
from tests.helpers.client.problem_rows import LABELS, label_sets, numbers
from tests.helpers.common.models import random_adapter

ROWS = {MULTI: (label_sets(), LABELS), REGRESSION: (numbers(), ("score",)), "several": (numbers(2), ("x", "y"))}


class Case:
    """A base whose own head has the outputs, with adapters, and rows for it."""

    def __init__(self, folder, kind, what, dtype="float32"):
        rows, labels = ROWS[what]
        problem = MULTI if what == MULTI else REGRESSION
        with_own_head(folder, labels, kind)
        self.folder = folder
        self.base = load_base(str(folder), "classification", labels, dtype, "cpu", "keep", problem)
        data = NodeData(path="rows", labels=labels, problem_type=problem, max_length=32)
        self.model = copy.deepcopy(self.base.model)
        self.lora = Lora(self.base.skeleton().model, find_targets(self.base, "query-value"))
        numbered = [Row(number, row) for number, row in enumerate(rows[:24], 1)]
        self.rows = encode_rows(numbered, data, self.base.tokenizer, folder)
        self.problem, self.labels = problem, labels


def peft_twin(case, adapter):
    """Return Transformers' own model with PEFT's LoRA of the same factors, and its tensors by our names."""
    model = AutoModelForSequenceClassification.from_pretrained(
        case.folder, problem_type=case.problem, num_labels=len(case.labels), attn_implementation="eager"
    )
    model.config.pad_token_id = case.base.model.config.pad_token_id
    config = LoraConfig(r=2, lora_alpha=2, target_modules=[*adapter], task_type=None)
    twin = get_peft_model(model, config)
    tensors = {}
    for name, factors in adapter.items():
        module = twin.base_model.model.get_submodule(name)
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        with torch.no_grad():
            a.copy_(torch.tensor(factors.a))
            b.copy_(torch.tensor(factors.b))
        tensors[name] = a, b
    return twin.eval(), tensors


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
@pytest.mark.parametrize("what", [*ROWS])
def test_found_D12_loss_and_gradient_are_those_of_transformers_and_peft(tmp_path, kind, what):
    case = Case(tmp_path / "base", kind, what)
    skeleton = case.base.skeleton()
    lora = Lora(skeleton.model, find_targets(skeleton, "query-value"))
    adapter = random_adapter(lora.shapes, (2,), 0)
    trained = trainable(Assignment(Adapter(), adapter), skeleton.device)
    lora.lanes = [Lane(trained)]
    (batch,) = eval_batches(case.rows, 24)
    objective = case.rows.objective
    loss = objective.measure(AdaptedModel(skeleton, lora), batch).loss / objective.count(batch)
    loss.backward()

    twin, tensors = peft_twin(case, adapter)
    theirs = twin(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.targets).loss
    theirs.backward()
    assert batch.targets.shape == (24, len(case.labels))
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    for name, (a, b) in tensors.items():
        for own, other in ((trained[name].a.grad, a.grad), (trained[name].b.grad, b.grad)):
            assert torch.allclose(own, other, rtol=1e-3, atol=1e-6 * other.abs().max().item() + 1e-8), name
            assert other.abs().max() > 0

    wrong = twin(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=1 - batch.targets).loss
    assert abs(wrong.item() - loss.item()) > 1e-3  # control: other targets have another loss


@pytest.mark.parametrize("what", [MULTI, REGRESSION])
def test_found_D12_the_loss_is_made_in_float32_whatever_the_bases_numbers(tmp_path, what):
    losses = {}
    for dtype in ("float32", "bfloat16"):
        case = Case(tmp_path / dtype, "bert", what, dtype)
        (batch,) = eval_batches(case.rows, 24)
        lora = Lora(case.base.skeleton().model, find_targets(case.base, "query-value"))
        measured = case.rows.objective.measure(AdaptedModel(case.base, lora), batch)
        losses[dtype] = measured.loss.item()
        assert measured.loss.dtype == torch.float32 == measured.outputs.dtype
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]


@pytest.mark.parametrize("what", [*ROWS])
def test_found_D12_scores_of_parts_add_up_to_those_of_all(tmp_path, what):
    case = Case(tmp_path / "base", "bert", what)
    skeleton = case.base.skeleton()
    lora = Lora(skeleton.model, find_targets(skeleton, "query-value"))
    adapter = random_adapter(lora.shapes, (2,), 0)
    whole = evaluate(skeleton, lora, adapter, case.rows)
    parts = [evaluate(skeleton, lora, adapter, subset(case.rows, range(n, 24, 5))) for n in range(5)]
    added = add_scores(case.rows.objective, parts)
    assert added.count == whole.count == 24
    assert added.loss == pytest.approx(whole.loss)
    assert added.score == pytest.approx(whole.score, rel=1e-6)
    mean = np.mean([part.score for part in parts if part.score is not None])
    assert mean != pytest.approx(whole.score, rel=1e-6)  # control: a mean of scores is another number
    assert [*whole.measures] == ["f1" if what == MULTI else "r2"]

    lora.lanes = [Lane(branches(adapter, skeleton.device))]
    (batch,) = eval_batches(case.rows, 24)
    with torch.no_grad():
        found, targets = AdaptedModel(skeleton, lora)(batch).numpy(), batch.targets.numpy()
    assert whole.score == pytest.approx(by_definition(what, found, targets), rel=1e-5)


def by_definition(what, found, targets):
    if what == MULTI:
        right, wrong = ((found > 0) & (targets > 0)).sum(), ((found > 0) != (targets > 0)).sum()
        return 2 * right / (2 * right + wrong)
    return np.mean(1 - ((targets - found) ** 2).sum(0) / ((targets - targets.mean(0)) ** 2).sum(0))


def test_found_D12_scores_that_are_not_defined_are_none():
    zeros = torch.zeros(3, 2)
    assert MicroF1().value(MicroF1().sums(zeros - 1, zeros)) is None
    assert MicroF1().value(MicroF1().sums(zeros + 1, zeros)) == 0
    assert R2().value(R2().sums(zeros, zeros + 7)) is None
    far = torch.tensor([[1e4], [1e4 + 1]])  # a large mean takes no digits away
    assert R2().value(R2().sums(far, far)) == 1
    assert R2().value(R2().sums(far.flip(0), far)) == pytest.approx(-3)
    assert Accuracy().value(Accuracy().sums(torch.eye(3), torch.tensor([0, 1, 1]))) == pytest.approx(2 / 3)


def test_found_D12_another_problem_type_is_another_objective():
    kinds = {}
    for problem in ("auto", SINGLE, MULTI, REGRESSION):
        objective = create_objective(NodeData(problem_type=problem, labels=("a", "b")))
        kinds[problem] = type(objective).__name__
    assert kinds == {"auto": "Classification", SINGLE: "Classification", MULTI: "MultiLabel", REGRESSION: "Regression"}


@pytest.mark.parametrize(
    ("problem", "value", "reason"),
    [
        (
            SINGLE,
            ["a"],
            'is not text but list; for several labels a row, set problem_type = "multi_label_classification"',
        ),
        (
            SINGLE,
            2.5,
            'no whole number; labels are texts or whole numbers: for numbers, set problem_type = "regression"',
        ),
        (REGRESSION, "a", 'is no number; for labels, set problem_type = "single_label_classification"'),
        (MULTI, 9, "'label' is '9', which is not in labels"),
    ],
)
def test_found_D12_wrong_kinds_are_refused_with_file_row_value_and_remedy(tmp_path, problem, value, reason):
    data = NodeData(path="rows", problem_type=problem, labels=("a", "b") if problem != REGRESSION else ("score",))
    tokenizer = load_base(str(tiny_base("bert")), "classification", ("a", "b"), "float32", "cpu").tokenizer
    rows = [Row(4, {"text": "a cow", "label": value})]
    with pytest.raises(DataError) as error:
        encode_rows(rows, data, tokenizer, tmp_path / "rows.jsonl")
    assert f"{tmp_path / 'rows.jsonl'}, line 4: " in str(error.value)
    assert reason in str(error.value)


def test_found_D12_rows_that_cannot_be_used_are_skipped_and_counted(tmp_path):
    tokenizer = load_base(str(tiny_base("bert")), "classification", ("a", "b"), "float32", "cpu").tokenizer
    data = NodeData(path="rows", problem_type=REGRESSION, labels=("score",), skip_bad_rows=True)
    values = [1.5, "x", float("nan"), "2"]
    rows = [Row(n, {"text": "a cow", "label": value}) for n, value in enumerate(values, 1)]
    found = encode_rows(rows, data, tokenizer, tmp_path / "rows.jsonl")
    assert [row.targets.tolist() for row in found.rows] == [[1.5], [2.0]]
    assert [place.line for place in found.found.skipped] == [2, 3]


def test_found_D12_labels_that_look_alike_are_told_of_sets_too(tmp_path):
    tokenizer = load_base(str(tiny_base("bert")), "classification", ("a", "b"), "float32", "cpu").tokenizer
    data = NodeData(path="rows", problem_type=MULTI, labels=("a", "A", "b"))
    rows = [Row(n, {"text": "a cow", "label": value}) for n, value in enumerate([["a", "b"], ["A"]], 1)]
    (warning,) = encode_rows(rows, data, tokenizer, tmp_path / "rows.jsonl").found.warnings
    assert "'A' (1), 'a' (1)" in warning


def test_found_D12_a_problem_type_goes_with_a_task_that_has_labels():
    with pytest.raises(ConfigError, match=r"problem_type = 'regression' is for rows with labels.*remove one"):
        parse_settings(RowSettings, {"task": "causal-lm", "problem_type": "regression"}, "recipe.toml")
    with pytest.raises(ConfigError, match="problem_type"):
        parse_settings(RowSettings, {"problem_type": "multilabel"}, "recipe.toml")
    assert parse_settings(RowSettings, {"problem_type": "regression"}, "recipe.toml").has_numbers


def test_found_D12_a_new_head_begins_at_zero(tmp_path):
    base = load_base(str(tiny_base("bert")), "classification", LABELS, "float32", "cpu", "keep", MULTI)
    lora = Lora(base.skeleton().model, find_targets(base, "query-value"))
    rows = [Row(n, row) for n, row in enumerate(label_sets(), 1)]
    data = NodeData(path="rows", labels=LABELS, problem_type=MULTI)
    score = evaluate(
        base,
        lora,
        Adapter({"classifier": Factors(np.zeros((1, 32), "f4"), np.zeros((3, 1), "f4"))}),
        encode_rows(rows, data, base.tokenizer, tmp_path),
    )
    assert score.loss == pytest.approx(np.log(2))
    assert score.score == 0
