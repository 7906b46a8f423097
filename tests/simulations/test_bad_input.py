import json
import shutil

import pytest

from simulations.tiny_base import tiny_base
from tests.helpers.end_to_end.command import TINY, call, end, refusal, settings, start
from tests.helpers.server.refused_rules import ILL_FORMED, MEANINGLESS
from tests.helpers.simulations.runs import BRIEF, toy_rows, write_recipe


def refused(tmp_path, *assignments, recipe=TINY):
    """Return the message of a run that never started, and that left no folder."""
    out = tmp_path / "runs"
    message = refusal(call("simulate", recipe, "--out", out, "--name", "run", *settings(*assignments)))
    assert not out.exists()
    return message


def test_the_same_command_without_a_fault_leaves_a_run(tmp_path):
    out = tmp_path / "runs"
    assert call("simulate", TINY, "--out", out, "--name", "run", *settings(*BRIEF, "train.rounds=1")).status == 0
    assert (out / "run" / "report.html").exists()


def test_in_a_process_of_its_own(tmp_path):
    words = ("simulate", TINY, "--out", tmp_path / "runs", *settings("base.path=/no/such/base"))
    message = refusal(end(start(*words)))
    assert "base model folder /no/such/base does not exist" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("base.path=/no/such/base", ("/no/such/base does not exist", "[base] path")),
        ("base.path=package:no_such_package/model", ("no_such_package is not installed", "pip install")),
        ("base.path=tiny:brt", ("'brt' is unknown", "'bert'")),
        ("base.device=gpu", ("device = 'gpu'", "use auto, cpu, mps, cuda")),
        ("lora.targets=qery", ("[lora] targets = 'qery'", "'query'")),
        ('lora.targets=["query", "vlue"]', ("[lora] targets = 'vlue'", "'value'")),
        ("lora.targets=que(ry", ("[lora] targets = 'que(ry'", "not a valid regular expression")),
        ("clients.ranks=[1, 0]", ("[clients] ranks = 0", "greater than or equal to 1")),
        ("clients.ranks=[-4]", ("[clients] ranks = -4", "greater than or equal to 1")),
        ("clients.ranks=[4, 33]", ("rank = 33", "at most 32", "lower")),
        ("clients.ranks=[1, 1, 1, 1, 1]", ("5 ranks for 4 clients",)),
        ("clients.count=400", ("320 training rows are too few", "count = 400", "lower one")),
        ("clients.partition=column", ("[clients] column",)),
        ("clients.partition=dirichelt", ("[clients] partition = 'dirichelt'", "'dirichlet'")),
        ("train.rouns=3", ("unknown key [train] rouns", "'rounds'")),
        ("trian.rounds=3", ("unknown key trian", "'train'")),
        ("train.rounds=three", ("[train] rounds = 'three'", "integer")),
        ("train.lr=nan", ("[train] lr", "finite")),
        ("server.algorithm=incremets", ("[server] algorithm = 'incremets' is unknown", "'increments'")),
        ("server.algorithm=fedit", ("fedit needs one rank", "[clients] ranks", "hetlora")),
        ("data.corpus=toys", ("[data] corpus = 'toys' is unknown", "'toy'")),
        ("data.text=txt", ("'txt'", "did you mean", "[data] text")),
        ("data.label=labl", ("'labl'", "did you mean", "[data] label")),
        ("data.task=causal-lm", ("causal",)),
        ("data.max_length=2", ("max_length = 2", "raise it")),
        ("rounds", ("--set 'rounds' has no key=value", "train.rounds=3")),
        ("seed.a=1", ("--set 'seed.a=1'", "seed is a value, not a table")),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(tmp_path, assignment, said):
    message = refused(tmp_path, assignment)
    assert all(part in message for part in said), message


@pytest.mark.parametrize(("server", "said"), MEANINGLESS + ILL_FORMED)
def test_keys_of_a_rule_that_mean_nothing_are_named_with_their_remedy(tmp_path, server, said):
    message = refused(tmp_path, *(f"server.{key}={json.dumps(value)}" for key, value in server.items()))
    assert all(part in message for part in said), message


def test_a_shared_rank_below_that_of_a_client_is_refused(tmp_path):
    asked = "server.algorithm=fedsgd", "clients.ranks=[4, 16]"
    message = refused(tmp_path, *asked, "server.rank_shared=8")
    assert "[server] rank_shared = 8 is below the largest rank of a node, 16; raise rank_shared" in message


def test_every_wrong_key_is_named_at_once(tmp_path):
    message = refused(tmp_path, "train.rouns=3", "clients.ranks=[0]")
    assert "rouns" in message
    assert "ranks = 0" in message


def test_a_pickle_is_refused_by_name_and_not_opened(tmp_path):
    base = shutil.copytree(tiny_base("bert"), tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    message = refused(tmp_path, f"base.path={base}")
    assert str(base) in message
    assert "pytorch_model.bin" in message
    assert "model.safetensors" in message


def test_a_base_that_was_cut_is_refused(tmp_path):
    base = shutil.copytree(tiny_base("bert"), tmp_path / "base")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert str(base) in refused(tmp_path, f"base.path={base}")


ROWS = toy_rows(text="text", label="label")
LINES = [json.dumps(row) for row in ROWS]
TABLE = ["text,label", *(f"{row['text']},{row['label']}" for row in ROWS)]


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("broken.jsonl", [*LINES[:6], '{"text": "cow', *LINES[6:]], ("line 7", "not JSON", "1 of 401 rows")),
        ("list.jsonl", [*LINES, "[1]"], ("line 401", "not a JSON object")),
        ("quote.csv", [*TABLE[:4], '"cow,farm', *TABLE[4:]], ("line 5",)),
        ("fields.csv", [*TABLE[:4], "cow,farm,barn", *TABLE[4:]], ("line 5", "3 fields where the header has 2")),
        ("twice.csv", ["text,text", *TABLE[1:]], ("line 1", "names a column twice")),
        ("empty.jsonl", [], ("contains no rows",)),
        ("empty.csv", ["text,label"], ("contains no rows",)),
        ("unlabelled.jsonl", [*LINES[:2], '{"text": "cow"}', *LINES[2:]], ("line 3", "'label' is empty")),
        ("blank.jsonl", [*LINES[:2], '{"text": " ", "label": "farm"}', *LINES[2:]], ("line 3", "'text' is blank")),
        ("one.jsonl", LINES[::4], ("[data] label", "two classes are needed")),
        ("few.jsonl", LINES[:9], ("training rows are too few", "lower one of the two, or add rows")),
        ("rows.txt", LINES, ("'.txt'", ".jsonl", ".csv", ".parquet")),
        ("rows.parquet", LINES, ("cannot be read as a Parquet file",)),
    ],
)
def test_a_bad_file_of_rows_is_named_with_its_line(tmp_path, name, lines, said):
    file = tmp_path / name
    file.write_text("".join(f"{line}\n" for line in lines))
    message = refused(tmp_path, recipe=write_recipe(tmp_path, file))
    assert str(file) in message or "training rows" in message or "[data] label" in message
    assert all(part in message for part in said), message


def test_a_missing_file_of_rows(tmp_path):
    message = refused(tmp_path, recipe=write_recipe(tmp_path, tmp_path / "rows.jsonl"))
    assert f"cannot read {tmp_path / 'rows.jsonl'}" in message


def test_rows_must_come_from_one_place(tmp_path):
    assert "exactly one of [data] corpus and [data] path" in refused(tmp_path, "data.path=rows.jsonl")


def test_a_recipe_that_is_missing_or_no_toml(tmp_path):
    assert "cannot read" in refused(tmp_path, recipe=tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("seed = 1\n[base\n")
    message = refused(tmp_path, recipe=bad)
    assert f"{bad} is not valid TOML" in message
    assert "line 2" in message


def test_a_run_folder_that_exists_is_left_alone(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "note.txt").write_text("mine")
    message = refusal(call("simulate", TINY, "--out", tmp_path, "--name", "run"))
    assert f"{folder} already exists" in message
    assert "--name" in message
    assert [path.read_text() for path in folder.iterdir()] == ["mine"]


def test_an_out_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("mine")
    message = refusal(call("simulate", TINY, "--out", tmp_path / "runs", "--name", "run"))
    assert "--out" in message
    assert (tmp_path / "runs").read_text() == "mine"
