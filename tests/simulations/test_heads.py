"""`[lora] head` in a simulation: the head that the exported adapter holds, with a base that PEFT loads."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from common.settings.reader import read_toml
from simulations.tiny_base import tiny_base
from tests.helpers.simulations.runs import BRIEF, records, run_tiny


@pytest.mark.parametrize("settings", [(), ("server.algorithm=fedsgd", "server.rank_global=1", "server.rank_kept=1")])
def test_the_exported_adapter_has_the_head(tmp_path, settings):
    run = run_tiny(tmp_path, *BRIEF, "lora.head=lda", *settings)
    head = records(run)[0]["head"]
    assert head["kept"]
    labels, folder = read_toml(run / "test.toml")["labels"], tiny_base("bert")
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(labels))
    model = PeftModel.from_pretrained(plain, run / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in (run / "test.jsonl").read_text().splitlines()]
    loss = 0.0
    with torch.no_grad():
        for row in rows:
            logits = model(**tokenizer(row["text"], return_tensors="pt", truncation=True, max_length=32)).logits[0]
            loss -= torch.log_softmax(logits, 0)[labels.index(row["label"])].item()
    assert loss / len(rows) == pytest.approx(records(run)[-1]["test_loss"], rel=1e-3)
