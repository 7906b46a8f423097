"""A project and its nodes, each with a folder of its own, made as an operator and a node's owner make them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import strategies as st

from common.identity import acceptance
from common.identity import node as node_keys
from common.identity import operator as project
from common.identity.documents.request import JoinRequest

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTS = ("fed.example.org", "10.0.0.5", "::1")


def days_ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


def new_project(folder: Path, now: datetime = NOW) -> Path:
    """Make the folder of project "cardio"."""
    project.init(folder, "cardio", HOSTS, now)
    return folder


def admit(operator: Path, request: JoinRequest, now: datetime = NOW) -> Path:
    return project.admit(operator, request, 16, 5000, now)


def new_node(operator: Path, folder: Path, name: str = "hospital-a", now: datetime = NOW) -> Path:
    """Make the folder of an admitted node, with its invite."""
    request = node_keys.join(folder, name)
    accept(folder, admit(operator, request, now))
    return folder


def accept(folder: Path, invite: Path) -> None:
    """Confirm an invite, as the owner of the node whose keys are in the folder."""
    acceptance.accept(folder, invite, None, lambda _: True)


def mutations(data: bytes) -> st.SearchStrategy[bytes]:
    """Draw these bytes with a part replaced, dropped or inserted, so that they differ."""

    def mutated(start: int, dropped: int, put: bytes) -> bytes:
        return data[:start] + put + data[start + dropped :]

    changed = st.builds(mutated, st.integers(0, len(data)), st.integers(0, 200), st.binary(max_size=40))
    return (changed | st.binary(max_size=400)).filter(lambda other: other != data)
