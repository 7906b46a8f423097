"""Several values in one field: a list, or a text that holds one as tables have it.

In a text, `|` or `;` separates; a list in JSON may stand there too. A comma separates nothing: labels have commas.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from client.data.labels import ClassNumber


def listed(value: Any) -> Sequence[Any] | None:
    """Return the values of a list, or of a text that is one; None for any other value, such as a single label."""
    if isinstance(value, str):
        return _in_text(value)
    return value if isinstance(value, list | tuple) else None


def _in_text(text: str) -> Sequence[Any] | None:
    text = text.strip()
    if text.startswith("["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, list) else None
    parts = [part.strip() for part in re.split(r"\|" if "|" in text else ";", text)]
    return [part for part in parts if part] if len(parts) > 1 else None


def is_switch(value: Any) -> bool:
    """Return whether a value is 0 or 1, for a label that a row lacks or has; the number of a class is none."""
    return isinstance(value, bool | int | float) and not isinstance(value, ClassNumber) and value in (0, 1)
