"""How the rows of a first recipe become clients."""

from typing import Any

from client.columns.suggestion import owner_column
from client.columns.survey import Survey
from common.errors import ConfigError
from simulations.starting.questions import Questions
from simulations.starting.read_rows import FoundRows

_MIN_ROWS = 8
"""The default of [clients] min_rows."""
_FEWEST = 2
"""A client trains on one row and evaluates on another."""
_TEST_SHARE = 10
"""One row in so many is held out to test."""


def clients_for(
    found: Survey, read: FoundRows, owner: str | None, clients: int | None, ask: Questions
) -> dict[str, Any]:
    """Return the keys of [clients]: a client for each owner if a column names them, else a number of clients."""
    column = owner or (None if clients else owner_column(found))
    if column is not None and owner is None and ask.interactive:
        column = ask.text("--owner", None, "Column that names the client of each row; - for none", column)
    if column not in (None, "-"):
        return _by_owner(found, str(column))
    rows = read.rows - test_rows_for(read)
    count = ask.number("--clients", clients, "Number of clients", max(1, min(8, rows // (2 * _MIN_ROWS))))
    if rows < _FEWEST * count:
        raise ConfigError(f"--clients {count}: {rows} rows to train on are too few for so many; give a smaller number")
    return {"count": count, "partition": "dirichlet" if read.has_classes else "iid", **_fewest(rows // count)}


def _by_owner(found: Survey, column: str) -> dict[str, Any]:
    names = [each.name for each in found.columns]
    if column not in names:
        raise ConfigError(f"--owner {column}: the rows have no such column; they have {', '.join(map(repr, names))}")
    few = min(found.column(column).values.values(), default=0)
    return {"partition": "column", "column": column, **_fewest(few // 2)}


def _fewest(rows: int) -> dict[str, int]:
    """Return the key that allows clients of so few rows, if it is needed."""
    return {"min_rows": max(_FEWEST, rows)} if rows < _MIN_ROWS else {}


def test_rows_for(read: FoundRows) -> int:
    """Return a tenth of the rows, if they are not too few one of each label, and at most the default."""
    classes = len(read.labels) if read.has_classes else 0
    return min(500, max(read.rows // _TEST_SHARE, min(classes, read.rows // 5)))
