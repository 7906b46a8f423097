"""The table of architectures: made of trials, each of which fails where something is wrong."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from simulations.architectures import trial as module
from simulations.architectures.__main__ import main
from simulations.architectures.configs import DECODERS, ENCODERS
from simulations.architectures.page import PAGE, page, read_rows, row_of
from simulations.architectures.trial import QUESTIONS, Answer, Trial, kinds, try_kind

FEW = [("llama", "causal-lm"), ("mamba", "causal-lm"), ("t5", "seq2seq"), ("xlnet", "classification")]
COMMITTED = read_rows(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_every_type_and_at_least_forty_architectures() -> None:
    assert [*COMMITTED] == [*kinds()]
    assert len(DECODERS) + len(ENCODERS) >= 40
    assert all(len(cells) == len(QUESTIONS) for cells in COMMITTED.values())


@pytest.mark.parametrize(("kind", "task"), FEW)
def test_a_few_are_as_the_page_says(kind: str, task: str, tmp_path: Path) -> None:
    assert row_of(try_kind(kind, task, tmp_path)) == COMMITTED[kind, task]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "task"), [each for each in kinds() if each not in FEW])
def test_all_are_as_the_page_says(kind: str, task: str, tmp_path: Path) -> None:
    assert row_of(try_kind(kind, task, tmp_path)) == COMMITTED[kind, task]


def test_an_export_of_other_numbers_and_a_merge_without_the_update_are_found(tmp_path, monkeypatch) -> None:
    write = module.export

    def spoilt(run, out, request):
        write(run, out, request)
        file = next(out.glob("*.safetensors"))
        tensors = load_file(file)
        name = next(each for each in tensors if "lora_B" in each or "q_proj" in each)
        save_file(tensors | {name: tensors[name] + 1}, file, metadata={"format": "pt"})

    monkeypatch.setattr(module, "export", spoilt)
    answers = try_kind("llama", "causal-lm", tmp_path).answers
    assert answers["trains"].works
    assert [answers[each].works for each in ("exports", "merges")] == [False, False]
    assert "logits differ by" in answers["exports"].reason


def test_an_update_that_moves_nothing_is_no_proof(tmp_path) -> None:
    answers = try_kind("llama", "causal-lm", tmp_path, train={"lr": 1e-9}).answers
    assert not answers["exports"].works
    assert answers["exports"].reason.startswith("the update moves logits by ")


def test_what_fails_is_told_below_the_table() -> None:
    answers = {each: Answer(True) for each in QUESTIONS} | {
        "merges": Answer(False, "too odd"),
        "generates": Answer(None),
    }
    text = page([Trial("odd", "classification", answers)])
    assert read_rows(text) == {("odd", "classification"): ["yes", "yes", "no", "–"]}
    assert "## What fails\n\n- odd, merges: too odd\n" in text


@pytest.mark.parametrize(
    ("names", "write", "told"), [(["lama"], False, "did you mean 'llama'"), (["llama"], True, "--write")]
)
def test_the_command_refuses_what_it_cannot_do(names, write, told, capsys) -> None:
    with pytest.raises(Exception) as caught:
        main(names, write)
    assert getattr(caught.value, "exit_code", None) == 2
    assert told in capsys.readouterr().err
