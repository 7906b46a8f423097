"""What the log says of the replies that counted, for nodes that go on from them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from common.protocol.assignment import CountedReply

Entry = Mapping[str, Any]
"""A line of the log."""


def counted_replies(entries: Iterable[Entry], since: int) -> dict[str, CountedReply]:
    """Return each node's last reply that counted in a round after `since`, by name."""
    return {
        name: CountedReply(entry["round"], update, clip)
        for entry in entries
        if entry["round"] > since
        for name, update, _, _, _, clip in entry.get("accepted", [])
    }


def rows_read(entries: Iterable[Entry]) -> Mapping[str, int]:
    """Return the rows, with repetition, behind each node's replies that counted, by name; 0 for any other."""
    rows: Counter[str] = Counter()
    for entry in entries:
        rows.update({c["name"]: c["examples"] for c in entry["metrics"]["clients"] if c["update"] is not None})
    return rows
