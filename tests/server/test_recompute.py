"""Rounds recomputed from kept replies, for every algorithm; what was not so is found, even in a log that is linked."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest

from common.errors import JournalError
from common.hash_chain import Chain
from server.recompute import Recomputation
from server.storage.journal_reader import verify_journal
from server.storage.kept_updates import kept_folder, kept_rounds, read_kept
from tests.helpers.server.exchange import NumpyNode
from tests.helpers.server.runs import FOUR, Each, fresh, hashes, plan, run

RULES = {
    "increments": {},
    "mode b": {"mode": "b"},
    "capped": {"rank_global": 2, "rank_kept": 3},
    "gaussian": {"a": "gaussian"},
    "norm": {"weights": "norm"},
    "tokens": {"weights": "tokens", "max_share": 0.3},
    "hetlora": {"algorithm": "hetlora"},
    "fedit": {"algorithm": "fedit"},
    "fedlin": {"algorithm": "fedlin", "mode": "b"},
    "fedsgd": {"algorithm": "fedsgd"},
    "fedsgd in two folds": {"algorithm": "fedsgd", "mode": "b", "hold": 1, "optimizer": "sgd", "norm_bound": 1e-3},
    "proximal": {"proximal": 2.0},
    "sampled": {"cohort": 2},
}
LIMITS = {"ada": 40, "bob": 30, "cyd": 20, "eve": 50}


def settings_of(rule, keep="all", rounds=3):
    return plan(rounds, **RULES[rule], keep_updates=keep)


def exchange_of(rule, **changes):
    return fresh([NumpyNode(node.name, 8, node.rows) for node in FOUR] if rule == "fedit" else FOUR, **changes)


def begin(folder, rule, keep="all", rounds=3):
    return run(folder, exchange_of(rule), settings_of(rule, keep, rounds), limit=LIMITS.get)


def recompute(folder, entries, number, settings):
    return Recomputation(folder, entries, number, settings, read_kept(folder, entries[number])).run()


@pytest.mark.parametrize("rule", RULES)
def test_every_kept_round_gives_the_same_bits(rule, tmp_path):
    entries, settings = begin(tmp_path, rule), settings_of(rule)
    assert kept_rounds(tmp_path) == [1, 2, 3]
    assert [recompute(tmp_path, entries, number, settings) for number in (1, 2, 3)] == [0.0] * 3


def test_keeping_changes_no_bit(tmp_path):
    assert hashes(begin(tmp_path / "kept", "increments")) == hashes(begin(tmp_path / "not", "increments", "none"))
    assert not (tmp_path / "not" / "updates").exists()


@pytest.mark.parametrize(
    ("keep", "left"), [("none", []), (1, [5]), (2, [4, 5]), (9, [1, 2, 3, 4, 5]), ("all", [*range(1, 6)])]
)
def test_as_many_rounds_are_kept_as_the_setting_says(keep, left, tmp_path):
    begin(tmp_path, "increments", keep, rounds=5)
    assert kept_rounds(tmp_path) == left


def test_another_number_of_rounds_holds_from_the_next_start(tmp_path):
    class Stop(Exception):
        pass

    def stop(number):
        if number == 3:
            raise Stop

    with pytest.raises(Stop):
        run(tmp_path, fresh(), settings_of("increments", "all", 6), Each(committed=stop))
    kept = []
    fewer = Each(started=lambda number: kept.append((number, kept_rounds(tmp_path))))
    run(tmp_path, fresh(), settings_of("increments", 2, 6), fewer)
    assert kept[0] == (4, [2, 3])
    assert kept[-1] == (6, [4, 5])
    assert kept_rounds(tmp_path) == [5, 6]


def test_a_round_of_two_attempts_is_that_of_the_second(tmp_path):
    """What was spooled in the first is not in the sum."""
    settings = replace(settings_of("fedlin"), quorum=3, attempts=2)
    seen = []

    def tamper(name, kind, number, reply):
        if kind == "train" and number == 2:
            seen.append((name, reply.values["attempt"], reply.values["phase"]))
            if reply.values["attempt"] == 1 and reply.values["phase"] == 2 and name in ("ada", "bob"):
                return "absent"
            if reply.values["attempt"] == 2 and name == "eve":
                return "absent"
        return reply

    messenger = exchange_of("fedlin")
    messenger.tamper = tamper
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.rounds.quorum.PAUSE", 0.0)
        entries = run(tmp_path, messenger, settings)
    assert ("eve", 1, 2) in seen
    assert recompute(tmp_path, entries, 2, settings) == 0.0


@pytest.mark.parametrize("reply", ["absent", "failed"])
@pytest.mark.parametrize("away", ["ada", "bob"])
def test_the_rows_that_were_asked_for_are_those_of_everybody_who_was_asked(tmp_path, away, reply):
    """A node draws by its rows beside those of all, whoever of them replied."""
    nodes = [NumpyNode("ada", 8, 400), NumpyNode("bob", 8, 20), NumpyNode("cyd", 8, 20)]
    messenger, settings = fresh(nodes), settings_of("fedsgd")
    messenger.tamper = lambda name, kind, number, own: reply if (name, kind, number) == (away, "train", 2) else own
    entries = run(tmp_path, messenger, settings)
    assert away not in {name for name, *_ in entries[2]["accepted"]}
    assert [recompute(tmp_path, entries, number, settings) for number in (1, 2, 3)] == [0.0] * 3


def test_a_node_that_counts_in_one_phase_alone_does_again(tmp_path):
    messenger = exchange_of("fedlin")
    messenger.tamper = lambda name, kind, number, reply: (
        "failed" if kind == "train" and name == "bob" and reply.values["phase"] == 2 else reply
    )
    settings = settings_of("fedlin")
    entries = run(tmp_path, messenger, settings)
    assert (kept_folder(tmp_path, 1) / "1.bob.update").exists()
    assert recompute(tmp_path, entries, 1, settings) == 0.0


def test_what_a_node_adds_to_its_values_is_not_kept(tmp_path):
    messenger = fresh()
    messenger.tamper = lambda name, kind, number, reply: replace(
        reply, values={**reply.values, "blob": b"\xff", "text": "x" * 10_000}
    )
    run(tmp_path, messenger, settings_of("increments"))
    kept = json.loads((kept_folder(tmp_path, 1) / "1.ada.values").read_text())
    assert kept.keys() == {"run", "round", "parent", "base", "attempt", "phase", "examples", "tokens", "loss"}


def test_names_of_nodes_do_not_collide(tmp_path):
    names = ("a", "a.values", "a.update", "2.a", "values.1.a")
    entries = run(tmp_path, fresh(NumpyNode(name, 2) for name in names), settings_of("increments"))
    assert recompute(tmp_path, entries, 3, settings_of("increments")) == 0.0


# --- what is not so ---


def flip(path, position=-1):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_of_any_kept_file_is_found_by_name_and_round(tmp_path):
    entries = begin(tmp_path, "fedlin")
    files = sorted(kept_folder(tmp_path, 2).iterdir())
    assert len(files) == 2 + 2 * 2 * 4
    for file in files:
        for position in (0, -1):
            flip(file, position)
            with pytest.raises(JournalError, match=rf"{file} \(round 2\) is changed.*restore"):
                read_kept(tmp_path, entries[2])
            flip(file, position)
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(JournalError, match=rf"{file} \(round 2\) is missing"):
            read_kept(tmp_path, entries[2])
        file.write_bytes(content)
    assert recompute(tmp_path, entries, 2, settings_of("fedlin")) == 0.0


def relinked(entries, number, change):
    """Return the entries of a log that was forged: one entry is changed, and all are linked anew."""
    chain = Chain()
    for entry in entries:
        content = {
            key: value for key, value in json.loads(json.dumps(entry)).items() if key not in ("hash", "previous")
        }
        if entry["round"] == number:
            change(content)
        chain = chain.followed_by(chain.next_line(content))
    return chain.entries


def client(name, **values):
    def change(entry):
        next(each for each in entry["metrics"]["clients"] if each["name"] == name).update(values)

    return change


FORGED = {
    "share of ada": client("ada", share=0.9),
    "examples of bob": client("bob", examples=21),
    "tokens of eve": client("eve", tokens=1),
    "update of cyd": client("cyd", update="0" * 64),
    "the log counts": client("bob", update=None, status="absent", reason="absent", share=0.0),
    "adapter_hash": lambda entry: entry.update(adapter_hash="0" * 64),
    "the kept replies give another state": lambda entry: entry.update(state_hash="0" * 64),
    "aggregation_error": lambda entry: entry["metrics"].update(aggregation_error=0.1),
    "agreement": lambda entry: entry["metrics"].update(agreement=0.99),
    "residual": lambda entry: entry["metrics"].update(residual=0.7),
    "rank_global": lambda entry: entry["metrics"].update(rank_global=31),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_log_is_found_although_it_is_linked(what, tmp_path):
    entries, settings = begin(tmp_path, "capped"), settings_of("capped")
    forged = relinked(entries, 2, FORGED[what])
    assert len(forged) == 4
    with pytest.raises(JournalError, match=rf"log.jsonl \(round 2\): .*{what}"):
        recompute(tmp_path, forged, 2, settings)
    assert recompute(tmp_path, relinked(entries, 2, lambda entry: None), 2, settings) == 0.0


def test_kept_replies_that_were_forged_with_their_hashes_are_found(tmp_path):
    entries, settings = begin(tmp_path, "increments"), settings_of("increments")
    folder = kept_folder(tmp_path, 2)
    values = json.loads((folder / "1.bob.values").read_text()) | {"examples": 40}
    (folder / "1.bob.values").write_text(json.dumps(values))
    manifest = json.loads((folder / "round.json").read_text())
    manifest["files"]["1.bob.values"] = sha256((folder / "1.bob.values").read_bytes()).hexdigest()
    (folder / "round.json").write_text(json.dumps(manifest, sort_keys=True))
    kept = sha256((folder / "round.json").read_bytes()).hexdigest()
    forged = relinked(entries, 2, lambda entry: entry.update(kept=kept))
    with pytest.raises(JournalError, match=r"\(round 2\): examples of bob is 20 in the log, and 40 recomputed"):
        recompute(tmp_path, forged, 2, settings)


def test_limits_of_the_roster_are_kept_as_they_were(tmp_path):
    entries, settings = begin(tmp_path, "norm"), settings_of("norm")
    facts = read_kept(tmp_path, entries[2])
    assert facts["limits"] == LIMITS
    other = facts | {"limits": dict.fromkeys(LIMITS, 1)}
    with pytest.raises(JournalError, match="share of"):
        Recomputation(tmp_path, entries, 2, settings, other).run()


def test_another_builds_last_bits_are_within_a_bound_of_the_log(tmp_path, monkeypatch):
    entries, settings = begin(tmp_path, "increments"), settings_of("increments")
    monkeypatch.setattr("common.adapters.lowrank.recompress", noisy(1e-9))
    assert 0 < recompute(tmp_path, entries, 2, settings) < 1e-6
    assert 0 < recompute(tmp_path, entries, 3, settings) < 1e-6  # beside the newest checkpoint
    monkeypatch.setattr("common.adapters.lowrank.recompress", noisy(1e-4))
    with pytest.raises(JournalError, match=r"\(round 2\): .* differs by"):
        recompute(tmp_path, entries, 2, settings)


def noisy(size):
    from common.adapters.lowrank import recompress

    real = getattr(recompress, "real", recompress)

    def replaced(factors, *args, **kwargs):
        made = real(factors, *args, **kwargs)
        return replace(made, b=made.b * (1 + size))

    replaced.real = real
    return replaced


def test_a_journal_with_kept_rounds_is_verified_as_before(tmp_path):
    entries = begin(tmp_path, "increments", 2)
    assert verify_journal(tmp_path) == entries
