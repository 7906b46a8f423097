"""The newest roster that a run has seen outlives the process."""

import pytest

from common.errors import IdentityError, JournalError
from common.identity.documents.roster import Roster, read_roster, sign_roster
from common.identity.keys.private_keys import new_signing_key
from server.storage.seen_roster import SeenRoster

KEY = new_signing_key()


def signed(version, project="demo", key=KEY, **members):
    roster = Roster(project, version, members)
    return roster, sign_roster(roster, key)


@pytest.fixture
def seen(tmp_path):
    kept = SeenRoster(tmp_path, KEY.public_key())
    kept.keep(*signed(3))
    return kept


def kept(folder):
    return read_roster((folder / "roster.json").read_bytes(), KEY.public_key()).version


def test_the_newest_is_kept_and_read_by_the_next_process(seen, tmp_path):
    seen.keep(*signed(3))
    seen.keep(*signed(5))
    assert kept(tmp_path) == 5
    with pytest.raises(IdentityError, match="roster version 4 is older than version 5, seen before"):
        SeenRoster(tmp_path, KEY.public_key()).keep(*signed(4))
    assert kept(tmp_path) == 5


def test_the_file_is_closed_to_others(seen, tmp_path):
    assert (tmp_path / "roster.json").stat().st_mode & 0o777 == 0o600


def test_one_that_cannot_be_written_does_not_count(seen, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("server.storage.seen_roster.write_file", full)
    seen.keep(*signed(3))  # control: nothing to write
    with pytest.raises(OSError, match="No space"):
        seen.keep(*signed(4))
    assert kept(tmp_path) == 3


@pytest.mark.parametrize("spoilt", [b"", b"{}", signed(9, key=new_signing_key())[1], signed(3)[1][:-2]])
def test_a_damaged_file_is_named_with_its_remedy(seen, tmp_path, spoilt):
    (tmp_path / "roster.json").write_bytes(spoilt)
    with pytest.raises(JournalError, match=r"roster\.json: .*put it back from a backup.*remove it"):
        seen.keep(*signed(4))
    (tmp_path / "roster.json").unlink()
    seen.keep(*signed(4))
    assert kept(tmp_path) == 4


def test_another_project_is_refused(seen):
    with pytest.raises(IdentityError, match="is of project other, not of demo"):
        seen.keep(*signed(4, "other"))
