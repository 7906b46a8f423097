"""Bases with a classification head of their own, and rows that the head itself has classified."""

import json

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from simulations.corpora import toy
from simulations.tiny_base import tiny_base


def with_own_head(folder, classes, kind="bert", named=True):
    """Write a base whose head has these classes, in their order, and never one answer only."""
    torch.manual_seed(0)
    names = dict(enumerate(classes)) if named else {i: f"LABEL_{i}" for i in range(len(classes))}
    own = {"num_labels": len(classes), "id2label": names, "label2id": {name: i for i, name in names.items()}}
    model = AutoModelForSequenceClassification.from_pretrained(tiny_base(kind), **own)
    head = model.score if hasattr(model, "score") else model.classifier
    last = getattr(head, "out_proj", head)
    torch.nn.init.normal_(last.weight)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base(kind))
    model.config.pad_token_id = tokenizer.pad_token_id
    if getattr(last, "bias", None) is not None:
        with torch.no_grad():
            last.bias -= answers(model, tokenizer).mean(0)  # so that every class is the answer to some row
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answers(model, tokenizer):
    """Return the logits of the toy corpus's texts, each read alone."""
    ids = [tokenizer(row["text"], return_tensors="pt", truncation=True, max_length=32) for row in toy.load().rows]
    with torch.no_grad():
        return torch.cat([model.eval()(**each).logits for each in ids])


def own_rows(folder, classes):
    """Return the toy corpus's texts, each with the class that the head in this folder gives it."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    found = answers(model, AutoTokenizer.from_pretrained(folder)).argmax(-1).tolist()
    assert {*found} == {*range(len(classes))}
    return [{"text": row["text"], "label": classes[i]} for row, i in zip(toy.load().rows, found, strict=True)]


def write_rows(file, rows):
    """Write rows as JSONL."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
