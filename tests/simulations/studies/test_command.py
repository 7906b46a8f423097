"""What a study is asked for and cannot do is refused, and nothing is left out without a word."""

import pytest

from common.errors import ConfigError
from simulations.studies.command import run_study
from tests.helpers.end_to_end.command import TINY


def asked(tmp_path, name, *assignments, seeds=None, federated=False):
    return run_study(name, TINY, list(assignments), tmp_path / "out", seeds, True, federated)


@pytest.mark.parametrize(
    ("name", "assignments", "own", "reason"),
    [
        (
            "baselines",
            (),
            {"federated": True},
            "--federated: study baselines cannot .*; amplification, place",
        ),
        ("latency", (), {"federated": True}, "--federated: study latency cannot"),
        ("redundancy", (), {"seeds": 2}, "--seeds 2: study redundancy can use 1 at most"),
        ("subspace", (), {"seeds": 3}, "--seeds 3: study subspace can use 2 at most"),
        ("rank", ("seed=7",), {}, "--set seed: a study counts its seeds from 1; set their number by --seeds"),
        ("rank", ("lora.budget=500",), {}, r"\[lora\] budget = 500, and a study sets the modules and ranks"),
        ("rank", ("server.cohort=2",), {"federated": True}, r"\[server\] cohort = 2: a study hears all clients"),
    ],
)
def test_it_is_refused_with_the_reason_before_a_folder_is_made(name, assignments, own, reason, tmp_path):
    with pytest.raises(ConfigError, match=reason):
        asked(tmp_path, name, *assignments, **own)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("place", "words"), [("trials", "cannot make"), ("memory.md", "is a folder where a page is")])
def test_a_file_or_a_folder_in_the_way_is_named_before_anything_is_trained(place, words, tmp_path):
    folder = tmp_path / "out" / "study-memory-tiny-quick"
    if place == "trials":
        folder.mkdir(parents=True)
        (folder / place).touch()
    else:
        (folder / place).mkdir(parents=True)
    with pytest.raises(ConfigError, match=words):
        asked(tmp_path, "memory")
