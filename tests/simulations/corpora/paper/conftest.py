"""A folder of public data sets, with tiny files in their layouts."""

import json

import pytest


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a file below $FEDLORA_DATA: a text as it is, anything else as JSON."""
    monkeypatch.setenv("FEDLORA_DATA", str(tmp_path))

    def write(file, content):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write
