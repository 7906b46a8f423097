"""Questions for what a command was not told: asked on a terminal, else answered by defaults, or refused by name."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import typer

from common.errors import ConfigError

Answer = TypeVar("Answer", str, int)


@dataclass(frozen=True)
class Questions:
    """How to come to an answer: with `interactive`, by asking the user."""

    interactive: bool

    @classmethod
    def of(cls, yes: bool) -> "Questions":
        """Ask only on a terminal, and not where defaults are taken."""
        return cls(not yes and sys.stdin is not None and sys.stdin.isatty())

    def text(self, flag: str, given: str | None, what: str, default: str | None = None) -> str:
        """Return a text: the given one, or the answer.

        Raises:
            ConfigError: nobody can be asked, and there is no default.
        """
        return self._answer(flag, given, what, default, str)

    def number(self, flag: str, given: int | None, what: str, default: int) -> int:
        """Return a number: the given one, or the answer."""
        return self._answer(flag, given, what, default, int)

    def _answer(
        self, flag: str, given: Answer | None, what: str, default: Answer | None, kind: Callable[..., Answer]
    ) -> Answer:
        if given is not None:
            return given
        if self.interactive:
            answer: Answer = typer.prompt(what, default=default, type=kind, err=True)
            return answer
        if default is None:
            raise ConfigError(f"{flag} is missing: {what}; add it, or type the command on a terminal, which asks")
        return default
