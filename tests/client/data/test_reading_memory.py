"""The memory of reading: below four times what the tokens need at four bytes each."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from simulations.corpora import load_corpus
from tests.helpers.end_to_end.command import ROOT

SIZE = 100 << 20
MEASURE = """
import resource, sys, threading, time
from pathlib import Path
from transformers import PreTrainedTokenizerFast
from client.data.files.source import open_rows
from client.objectives.examples import encode_pieces, split_held_out
from common.settings.node import NodeData

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

path = Path(sys.argv[1])
tokenizer = PreTrainedTokenizerFast.from_pretrained(path.parent, trust_remote_code=False)
data = NodeData(task=sys.argv[2], labels=("a", "b"), max_length=1024)
tokenizer(["some text"] * 64)
peak = start = resident()

def watch():
    global peak
    while True:
        peak = max(peak, resident())
        time.sleep(0.01)

threading.Thread(target=watch, daemon=True).start()
begin = time.monotonic()
train, held = split_held_out(encode_pieces(open_rows(path).chunks(), data, tokenizer, path), "node")
seconds = time.monotonic() - begin
print(int(train.lengths.sum() + held.lengths.sum()), peak - start, seconds)
"""


def write(path: Path, texts: list[str]) -> None:
    draw, size, words = random.Random(0), 0, " ".join(texts).split(" ")
    with path.open("w") as file:
        while size < SIZE:
            begin = draw.randrange(len(words))
            text = " ".join(words[begin : begin + draw.randint(10, 400)])
            size += file.write(json.dumps({"text": f"{text} .", "label": draw.choice("ab")}) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["causal-lm", "classification"])
def test_the_memory_of_reading_is_a_few_times_that_of_the_tokens(tmp_path, task):
    texts = [row["text"] for row in load_corpus("library-docs").rows]
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(texts, vocab_size=16_000, special_tokens=["<eos>"], show_progress=False)
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<eos>").save_pretrained(tmp_path)
    write(tmp_path / "rows.jsonl", texts)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "rows.jsonl"), task]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=550)
    tokens, growth, seconds = ended.stdout.split()
    print(f"{task}: {tokens} tokens, {int(growth) / 2**20:.0f} MiB, {float(seconds):.0f} s")
    assert int(growth) < 4 * 4 * int(tokens)
