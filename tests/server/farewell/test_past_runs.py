import hashlib
import os
import shutil

import pytest

from common.errors import FedloraError
from common.hash_chain import read_chain
from common.identity.documents.signatures import Ending, verify_signature
from server.farewell.past_runs import load_last_update, past_runs
from tests.helpers.common.identity_parties import new_project


def test_a_run_that_has_ended_is_found_by_its_identity_and_signed(runs):
    folder = runs.make("first")
    assert past_runs(runs.folder) == {runs.identity("first"): [folder]}
    update = load_last_update(folder, runs.credentials)
    log = folder / "journal" / "log.jsonl"
    last = read_chain(log.read_bytes(), log).entries[-1]
    assert hashlib.sha256(update.buffer).hexdigest() == last["adapter_hash"] == update.round_id.parent
    assert (update.round_id.run, update.round_id.round) == (runs.identity("first"), 2)
    ending = Ending(project="demo", run=runs.identity("first"), round=2, adapter_hash=last["adapter_hash"])
    key = runs.credentials.receipt_key.public_key()
    assert verify_signature(ending, bytes.fromhex(update.signature), key)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("spoil", [flip, cut, link, os.unlink], ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize(
    "name", ["config.toml", "journal/log.jsonl", "journal/round-000002.state", "journal/roster.json"]
)
def test_what_was_changed_or_is_half_there_is_not_signed(runs, name, spoil):
    folder = runs.make("first")
    spoil(folder / name)
    with pytest.raises(FedloraError):
        load_last_update(folder, runs.credentials)


def test_an_empty_log_and_a_run_that_goes_on_are_not_signed(runs):
    with pytest.raises(FedloraError, match="has 1 of 2 rounds; it has not ended"):
        load_last_update(runs.make("second", rounds=1), runs.credentials)
    folder = runs.make("first")
    (folder / "journal" / "log.jsonl").write_bytes(b"")
    with pytest.raises(FedloraError):
        load_last_update(folder, runs.credentials)


def test_a_folder_that_others_may_write_in_is_not_signed(runs):
    folder = runs.make("first")
    folder.chmod(0o770)
    with pytest.raises(FedloraError, match="chmod 700"):
        load_last_update(folder, runs.credentials)


def test_a_run_of_a_project_of_the_same_name_with_other_keys_is_not_signed(runs, tmp_path):
    folder = runs.make("first")
    other = new_project(tmp_path / "other")
    shutil.copy(other / "roster.json", folder / "journal" / "roster.json")
    with pytest.raises(FedloraError, match="sign"):
        load_last_update(folder, runs.credentials)


@pytest.mark.parametrize("log", [None, b"", b"{}\n", b"[]\n", b'{"config"', b"\xff\n", b"[" * 100_000])
def test_what_is_no_run_is_passed_over(runs, log):
    folder = runs.make("first")
    journal = runs.folder / "other" / "journal"
    journal.mkdir(parents=True)
    (runs.folder / "file").touch()
    (runs.folder / "link").symlink_to(folder)
    os.mkfifo(runs.folder / "pipe")
    if log is not None:
        (journal / "log.jsonl").write_bytes(log)
    assert past_runs(runs.folder) == {runs.identity("first"): [folder]}
