"""The two forms of a log: text for people, and JSON for programs, one line an event.

A call that states an event passes `extra=event("round-started", round=3)` beside its text. A peer may
have written a part of a text or value, so both forms bound it, and neither lets it end a line or reach a terminal.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from common.errors import printable

LONGEST = 2000
"""Most characters of a text or value."""
MOST = 32
"""Most fields of an event."""
LINE = 16_384
"""Most characters of a JSON line; an event with longer fields has none of them."""
CUT = "…"
"""Ends what was cut."""
_UNKNOWN = "log"
"""The event of a call that names none."""


class LogFormat(StrEnum):
    """Form of a command's log."""

    TEXT = "text"
    JSON = "json"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `event`, `message`, the event's fields, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        whole = _stated(record) | {
            "message": bounded(record.getMessage()),
            **_fields(getattr(record, "fields", {})),
            **({"exception": bounded(self.formatException(record.exc_info))} if record.exc_info else {}),
        }
        line = json.dumps(whole)
        short = _stated(record) | {"message": bounded(record.getMessage(), LONGEST // 10), "cut": True}
        return line if len(line) <= LINE else json.dumps(short)


class TextFormatter(logging.Formatter):
    """Time and message on one line; a traceback of our own errors follows indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name in logging.Formatter)
        """Return the line."""
        record.message = printable(bounded(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback, indented."""
        return "\n".join(f"    {printable(line)}" for line in super().formatException(ei).splitlines())


_FORMATTERS: Mapping[LogFormat, type[logging.Formatter]] = {
    LogFormat.TEXT: TextFormatter,
    LogFormat.JSON: JsonFormatter,
}


def event(word: str, **fields: Any) -> dict[str, Any]:
    """Return the `extra` of a log call that states an event; words are stable, since programs read them."""
    return {"event": word, "fields": fields}


def log_to_stderr(form: LogFormat) -> None:
    """Write every record of this process from INFO on to standard error, in this form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[form]())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def last_line(text: str, word: str, level: int) -> str:
    """Return a text that a command writes to standard error as it ends, in the form of its log."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    if not any(isinstance(each, JsonFormatter) for each in formatters):
        return text
    record = logging.LogRecord("fedlora", level, "", 0, "%s", (text,), None)
    record.event = word
    return JsonFormatter().format(record)


def bounded(text: str, most: int = LONGEST) -> str:
    """Return a text of at most that many characters; one that was cut says so."""
    return text if len(text) <= most else text[: most - len(CUT)] + CUT


def _stated(record: logging.LogRecord) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": bounded(str(getattr(record, "event", _UNKNOWN)), 100),
    }


_OURS = {"time", "level", "logger", "event", "message", "exception", "cut"}


def _fields(fields: Any) -> dict[str, Any]:
    """Return the fields of an event as plain values; a field cannot replace a key that each line has."""
    items = list(fields.items())[:MOST] if isinstance(fields, Mapping) else []
    return {_key(str(key)): _plain(value) for key, value in items}


def _key(name: str) -> str:
    return bounded(f"{name}_" if name in _OURS else name, 100)


def _plain(value: Any) -> Any:
    """Return a value that JSON has; numbers that it does not have, and everything else, become text."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    if isinstance(value, float) and abs(value) < float("inf"):
        return value
    return bounded(str(value))
