import json
from pathlib import Path

import pytest

from server.storage.journal_reader import verify_journal
from simulations.bench import in_process
from simulations.simulate import simulate

RECIPE = Path(__file__).parents[3] / "simulations" / "recipes" / "tiny.toml"


def test_each_rounds_work_is_done_once_more_and_changes_nothing(tmp_path, capsys, monkeypatch):
    settings = ["train.rounds=2", "train.steps=2", "data.test_rows=0"]
    plain = simulate(RECIPE, settings, "plain", tmp_path, None)
    timed = simulate(RECIPE, [*settings, "server.codec=plain"], "timed", tmp_path, None, prepare_only=True)
    trained = _counted(monkeypatch)
    capsys.readouterr()
    in_process.main(timed)
    times = json.loads(capsys.readouterr().out)
    assert len(times["rounds"]) == len(times["pure"]) == 2
    assert len(trained) == 2 * 4
    last = [verify_journal(run / "journal")[-1]["adapter_hash"] for run in (plain, timed)]
    assert last[0] == last[1]


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the nodes that the repetition trains."""
    names: list[str] = []

    def train(skeleton, lora, assignments, node_names, datasets, training):
        names.extend(node_names)
        return real(skeleton, lora, assignments, node_names, datasets, training)

    real = in_process.train
    monkeypatch.setattr(in_process, "train", train)
    return names
