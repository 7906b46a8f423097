"""Errors of fedlora: each states the fault and the remedy, and the command turns it into an exit status."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeVar

from common.disk_errors import remedy

Entry = TypeVar("Entry")


class FedloraError(Exception):
    """A fault with an explanation for the user; `exit_status` is the exit status of the command."""

    exit_status = 2


class ConfigError(FedloraError):
    """A setting is wrong: names the key, the value and the remedy."""


class DataError(FedloraError):
    """A row or a file of data cannot be used: names the file and the line."""


class ModelError(FedloraError):
    """A base model cannot be loaded, or does not fit what is asked of it."""


class CodecError(FedloraError):
    """A buffer is not a well-formed adapter; the only error that `common.adapters.codec` raises."""


class TransportError(FedloraError):
    """A message between a node and the server is malformed, or the two cannot talk to each other."""


class IdentityError(FedloraError):
    """A key, certificate, roster or request cannot be used: names the file or name, and the remedy."""


class JournalError(FedloraError):
    """A run folder cannot be used: it exists, it was changed, or it belongs to another recipe or base."""


class RunError(FedloraError):
    """A run failed after it had begun; the last committed round is intact."""

    exit_status = 1


@contextmanager
def naming_command(again: str) -> Iterator[None]:
    """Add the command that resumes the run to an error of a run that fails while the block runs."""
    try:
        yield
    except RunError as error:
        raise RunError(f"{error}; resume with: {again}") from error
    except OSError as error:
        what = f"{error}; the last committed round is intact: {remedy(error)}"
        raise RunError(f"{what}; resume with: {again}") from error


def printable(text: str, keep: str = "") -> str:
    """Return text that cannot draw on a terminal: what is not printable is written as an escape, such as \\x1b.

    Args:
        text: of a file, a peer or a user.
        keep: characters to leave as they are, such as line breaks.
    """
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )


def look_up(registry: Mapping[str, Entry], key: str, name: str) -> Entry:
    """Return the entry of this name in a registry; `key` is the setting that names it, as "[server] codec".

    Raises:
        ConfigError: there is none.
    """
    if name not in registry:
        raise ConfigError(f"{key} = {name!r} is unknown{nearest(name, registry)}")
    return registry[name]


def nearest(word: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return a hint for a misspelt word: `; did you mean "alpha"?`, or the known words if none is close."""
    known = sorted(known)
    close = get_close_matches(word, known, n=3, cutoff=cutoff)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; known: {', '.join(known)}"
