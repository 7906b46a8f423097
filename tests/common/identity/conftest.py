"""No passphrase but the one that a test sets."""

import pytest

from common.identity.keys.private_keys import VARIABLE


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
