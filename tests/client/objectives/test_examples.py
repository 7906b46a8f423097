import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.batches import Batch
from client.data.files.source import read_rows
from client.data.rows import Row
from client.data.tokens import IGNORE, Example
from client.objectives import create_objective
from client.objectives.examples import Examples, batches, encode_rows, eval_batches, split_held_out
from common.errors import DataError
from common.settings.node import NodeData
from tests.helpers.client.toy_tokenizer import MARKED_CHAT, node_data, word_tokenizer, words

os.environ["HF_HUB_OFFLINE"] = "1"

FILE = Path("rows.jsonl")
PAD = 0


def numbered(lengths: list[int]) -> Examples:
    """Rows of a classification task whose label is the number of the row."""
    rows = tuple(Example(np.full(length, 5, np.int32), number, cut=False) for number, length in enumerate(lengths))
    return Examples(rows, create_objective(NodeData()), PAD)


def texts(*rows: dict[str, object], pad: str | None = None, **keys: object) -> Examples:
    named = {"eos_token": "<eos>"} | ({"pad_token": pad} if pad else {})
    numbered_rows = [Row(line, row) for line, row in enumerate(rows, start=1)]
    return encode_rows(numbered_rows, node_data(**keys), word_tokenizer(**named), FILE)


def labels_of(batch: Batch) -> list[int]:
    return batch.targets.tolist()


def one_batch(examples: Examples) -> Batch:
    (batch,) = eval_batches(examples, 100)
    return batch


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 12))
def test_batches_are_as_many_as_asked_and_use_every_row_before_any_again(
    lengths: list[int], batch: int, count: int
) -> None:
    got = list(batches(numbered(lengths), batch, count, (0, "clinic", 1)))
    assert len(got) == count
    assert all(len(each) <= batch for each in got)
    uses = np.bincount([n for each in got for n in labels_of(each)], minlength=len(lengths))
    assert uses.max() - uses.min() <= 1


def test_the_same_key_gives_the_same_batches_and_any_other_key_others() -> None:
    examples = numbered([7] * 64)

    def order(*key: object) -> list[list[int]]:
        return [labels_of(batch) for batch in batches(examples, 8, 8, key)]

    assert order(0, "clinic", 1) == order(0, "clinic", 1)
    assert all(order(0, "clinic", 1) != order(*key) for key in [(1, "clinic", 1), (0, "clinics", 1), (0, "clinic", 2)])


def test_batches_leave_the_global_random_stream_alone() -> None:
    before = torch.random.get_rng_state()
    list(batches(numbered([3, 4]), 1, 4, (0, "clinic", 1)))
    assert torch.equal(before, torch.random.get_rng_state())
    list(torch.utils.data.DataLoader([1]))
    assert not torch.equal(before, torch.random.get_rng_state())  # control: a plain loader draws from it


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 20))
def test_evaluation_has_every_row_once(lengths: list[int], batch: int) -> None:
    got = list(eval_batches(numbered(lengths), batch))
    assert sorted(n for each in got for n in labels_of(each)) == list(range(len(lengths)))


def test_a_batch_of_texts_is_padded_on_the_right_without_loss() -> None:
    batch = one_batch(texts({"text": "w1"}, {"text": "w2 w3 w4"}, pad="<pad>"))
    assert batch.input_ids.tolist() == [words("w1 <eos> <pad> <pad>"), words("w2 w3 w4 <eos>")]
    assert batch.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.targets.tolist() == [[*words("w1 <eos>"), IGNORE, IGNORE], words("w2 w3 w4 <eos>")]
    assert {tensor.dtype for tensor in (batch.input_ids, batch.attention_mask, batch.targets)} == {torch.int64}


def test_a_batch_of_labels_has_one_target_a_row() -> None:
    examples = numbered([1, 3])
    batch = one_batch(examples)
    assert batch.targets.tolist() == [0, 1]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert examples.objective.count(batch) == len(batch) == 2


def test_the_end_is_learned_even_if_it_is_also_the_padding() -> None:
    batch = one_batch(texts({"text": "w1"}, {"text": "w2 w3 w4"}, pad="<eos>"))
    (end,) = words("<eos>")
    assert batch.input_ids[0].tolist() == words("w1 <eos> <eos> <eos>")
    assert batch.attention_mask[0].tolist() == [1, 1, 0, 0]
    assert batch.targets[0].tolist() == [*words("w1 <eos>"), IGNORE, IGNORE]
    by_padding_id = batch.input_ids.masked_fill(batch.input_ids == end, IGNORE)
    assert (batch.targets == end).sum() == 2
    assert (by_padding_id == end).sum() == 0  # control: masking by the padding's id unlearns every end


def test_a_tokenizer_without_padding_pads_with_its_end_and_without_an_end_with_zero() -> None:
    rows = [Row(1, {"text": "w1 w2"})]
    assert encode_rows(rows, node_data(), word_tokenizer(eos_token="<eos>"), FILE).pad_id == words("<eos>")[0]
    assert encode_rows(rows, node_data(), word_tokenizer(), FILE).pad_id == 0
    assert (
        encode_rows(rows, node_data(), word_tokenizer(pad_token="w1", eos_token="<eos>"), FILE).pad_id == words("w1")[0]
    )


def count(examples: Examples) -> int:
    return examples.objective.count(one_batch(examples))


def test_the_count_is_of_predictions_after_the_shift() -> None:
    examples = texts({"prompt": "w1 w2", "completion": "w3"}, {"prompt": "w1", "completion": "w2 w3 w4"})
    assert count(examples) == 2 + 4
    assert count(texts({"text": "w1 w2 w3"})) == 3  # 4 targets, of which nothing predicts the first


def test_chats_become_batches_in_which_the_assistant_alone_is_learned() -> None:
    tokenizer = word_tokenizer(eos_token="<eos>")
    tokenizer.chat_template = MARKED_CHAT
    chat = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2"}]
    batch = one_batch(encode_rows([Row(1, {"messages": chat, "text": "w9"})], node_data(), tokenizer, FILE))
    assert batch.input_ids.tolist() == [words("user w1 <eos> assistant w2 <eos>")]
    assert batch.targets.tolist() == [[IGNORE] * 4 + words("w2 <eos>")]


def test_cut_rows_are_counted_in_each_part() -> None:
    examples = texts(*[{"text": "w1 w2 w3 w4"}] * 5, *[{"text": "w1"}] * 15, max_length=3)
    train, held = split_held_out(examples, "clinic")
    assert examples.truncated == 5 == train.truncated + held.truncated
    assert examples.lengths.max() == 3


def test_all_bad_rows_are_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"w1\nw2",yes\n,yes\nw1,perhaps\nw1,\n')
    labelled = node_data(task="classification", labels=("no", "yes"))
    with pytest.raises(DataError) as error:
        encode_rows(read_rows(path), labelled, word_tokenizer(), path)
    assert str(error.value).splitlines() == [
        f"{path}: 3 of 4 rows cannot be used; fix or remove them, or set skip_bad_rows = true (in a recipe: [data] "
        "skip_bad_rows) to leave them out",
        f"{path}, line 4: 'text' is empty",
        f"{path}, line 5: 'label' is 'perhaps', which is not in labels; known: no, yes",
        f"{path}, line 6: 'label' is empty",
    ]


def test_moving_a_batch_keeps_it_whole() -> None:
    batch = one_batch(texts({"text": "w1 w2"}))
    moved = batch.to("meta")
    assert {each.device.type for each in (moved.input_ids, moved.attention_mask, moved.targets)} == {"meta"}
    assert batch.to("cpu").input_ids.tolist() == batch.input_ids.tolist()


@pytest.mark.gpu
def test_pinned_batches_reach_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    (batch,) = batches(numbered([2, 3]), 2, 1, (0, "clinic", 1), pin=True)
    assert batch.input_ids.is_pinned() and batch.targets.is_pinned()
    assert torch.equal(batch.to("cuda").input_ids.cpu(), batch.input_ids)


@settings(deadline=None)
@given(st.integers(2, 1500), st.text("abc", min_size=1))
def test_a_hold_out_is_a_partition_within_its_bounds(count: int, name: str) -> None:
    examples = numbered([1] * count)
    train, held = split_held_out(examples, name)
    numbers = [row.targets for part in (train, held) for row in part.rows]
    assert sorted(numbers) == list(range(count))
    assert len(held) == min(64, max(1, round(count / 10)))
    assert len(train) >= 1


def test_a_hold_out_depends_on_the_name_alone() -> None:
    def held(name: str) -> list[object]:
        return [row.targets for row in split_held_out(numbered([1] * 100), name)[1].rows]

    assert held("clinic") == held("clinic")
    assert held("clinic") != held("hospital")


def test_a_row_is_left_to_train_on() -> None:
    train, held = split_held_out(numbered([1, 1]), "clinic")
    assert (len(train), len(held)) == (1, 1)


def test_one_row_cannot_be_split() -> None:
    with pytest.raises(DataError, match="node clinic has 1 row of data, but needs 2"):
        split_held_out(numbered([1]), "clinic")
