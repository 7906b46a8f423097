"""Found by use: a run that began with modules that are no targets any more goes on with them."""

import pytest

from client.model import targets
from common.errors import JournalError
from server.storage.journal_reader import begun_modules
from simulations.architectures.trial import write_base
from tests.helpers.end_to_end.command import TINY, call, refusal, settings
from tests.helpers.simulations.runs import BRIEF, hashes, run_tiny

RULES = {"increments": (), "fedsgd": ("server.rank_shared=8", "train.lr=1e-3")}
UNFIT = {"deepseek_v3": "mlp.up_proj", "mamba": "mixer.out_proj"}


def words(kind, base, *more):
    targets_asked = "lora.targets=all-linear"
    return (*BRIEF, "data.task=causal-lm", "clients.partition=iid", f"base.path={base}", targets_asked, *more)


@pytest.fixture(params=UNFIT)
def kind(request):
    return request.param


@pytest.fixture
def base(kind, tmp_path):
    return write_base(kind, "causal-lm", tmp_path / "base")


def earlier_run(kind, base, folder, monkeypatch, *more):
    """Return a run as of an earlier release, which knew of no such modules."""
    with monkeypatch.context() as patch:
        patch.setattr(targets, "unfit_modules", lambda model: {})
        return run_tiny(folder, *words(kind, base, *more))


def lose_last_round(run):
    """Leave the run as if it had been killed before it committed its last round."""
    log = run / "journal" / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))


@pytest.mark.parametrize("rule", RULES)
def test_found_B1_B2_a_run_that_began_with_such_modules_resumes_to_the_same_bits(
    rule, kind, base, tmp_path, monkeypatch
):
    more = (f"server.algorithm={rule}", *RULES[rule])
    run = earlier_run(kind, base, tmp_path, monkeypatch, *more)
    whole = hashes(run)
    lose_last_round(run)
    assert hashes(run) == whole[:-1]
    ended = call("simulate", TINY, "--resume", run, *settings(*words(kind, base, *more)))
    assert ended.status == 0, ended.err
    assert hashes(run) == whole
    assert any(name.endswith(UNFIT[kind]) for name in begun_modules(run / "journal"))
    assert call("merge", run, tmp_path / "merged").status == 0
    assert UNFIT[kind] in refusal(call("export", run, tmp_path / "peft"))


def test_found_B1_B2_control_a_new_run_has_none_of_them(kind, base, tmp_path):
    assert not any(
        name.endswith(UNFIT[kind]) for name in begun_modules(run_tiny(tmp_path, *words(kind, base)) / "journal")
    )


def test_no_module_is_begun_with_before_the_first_round(tmp_path):
    assert begun_modules(tmp_path / "journal") == ()


def test_a_damaged_journal_tells_no_modules(tmp_path):
    run = run_tiny(tmp_path, *BRIEF)
    log = run / "journal" / "log.jsonl"
    log.write_bytes(log.read_bytes()[5:])
    with pytest.raises(JournalError, match=r"log\.jsonl"):
        begun_modules(run / "journal")
