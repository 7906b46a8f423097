"""The new head of a base, and where it reads a row (client/model/base_model.py)."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from client.data.rows import Row
from client.model.base_model import BaseModel
from client.model.forward import forward
from client.objectives.examples import encode_rows, eval_batches
from common.settings.node import NodeData
from simulations.tiny_base import tiny_base
from tests.helpers.client.bases import copied, loaded
from tests.helpers.common.models import LABELS, load


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("bert", [("classifier", True, True)]),
        ("roberta", [("classifier.dense", False, True), ("classifier.out_proj", True, True)]),
        ("deberta", [("pooler.dense", False, True), ("classifier", True, True)]),
        ("gpt2", [("score", True, False)]),
        ("llama", [("score", True, False)]),
    ],
)
def test_a_new_head_is_named_and_its_last_projection_is_zero(kind, head):
    base = load(kind)
    assert [(module.name, module.last, module.bias) for module in base.head] == head
    *inner, last = [base.model.get_submodule(name) for name, _, _ in head]
    assert not last.weight.any()
    assert all(module.weight.std().item() == pytest.approx(0.02, rel=0.1) for module in inner)
    assert not any(module.bias.any() for module in (*inner, last) if module.bias is not None)


def test_a_checkpoint_with_its_own_head_keeps_it(tmp_path):
    AutoModelForSequenceClassification.from_pretrained(tiny_base("bert"), num_labels=3).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_base("bert")).save_pretrained(tmp_path)
    base = loaded(tmp_path)
    assert base.head == ()
    assert base.model.classifier.weight.any()


DRAW = """
import sys
from client.model.base_model import load_base
model = load_base(sys.argv[1], "classification", ("bad", "fair", "good"), "float32", "cpu").model
sys.stdout.write(model.classifier.dense.weight.numpy().tobytes().hex())
"""


def test_two_processes_have_the_same_new_head():
    ours = loaded(tiny_base("roberta")).model.classifier.dense.weight.numpy()
    command = [sys.executable, "-c", DRAW, str(tiny_base("roberta"))]
    other = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert other.stdout == ours.tobytes().hex()
    redrawn = AutoModelForSequenceClassification.from_pretrained(tiny_base("roberta"), num_labels=3)
    assert not np.allclose(redrawn.classifier.dense.weight.detach(), ours)  # control: Transformers' own draw


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("pad", [None, -1, 1])
def test_a_decoder_reads_a_row_at_its_last_token_whatever_its_settings_say_of_padding(tmp_path, kind, pad):
    base = loaded(copied(kind, tmp_path / "base", pad_token_id=pad)).skeleton()
    _read_off_the_last_token(base)
    base.model.config.pad_token_id = 1  # control: not what these rows are padded with
    with pytest.raises(AssertionError):
        _read_off_the_last_token(base)


def test_a_decoder_whose_tokenizer_does_not_pad_pads_with_its_end_of_text(tmp_path):
    folder = copied("gpt2", tmp_path / "base", pad_token_id=None)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    del tokenizer["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    base = loaded(folder)
    assert base.tokenizer.pad_token_id is None
    assert base.model.config.pad_token_id == base.tokenizer.eos_token_id
    _read_off_the_last_token(base.skeleton())


def _read_off_the_last_token(base: BaseModel):
    """Check that a short row has the same logits beside a long one as alone."""
    torch.manual_seed(0)
    base.model.score.weight = nn.Parameter(torch.randn(3, 32))
    rows = [Row(line, {"text": text, "label": "good"}) for line, text in enumerate(["hay", "a cow by the old barn"], 1)]
    examples = encode_rows(rows, NodeData(labels=LABELS), base.tokenizer, Path("rows.jsonl"))
    (together,) = (forward(base, batch) for batch in eval_batches(examples, 2))
    alone = torch.cat([forward(base, batch) for batch in eval_batches(examples, 1)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
