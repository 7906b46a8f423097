"""Try every architecture on a tiny random base: `python -m simulations.architectures [KIND ...] [--write]`."""

import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from common.errors import nearest
from simulations.architectures.page import PAGE, page
from simulations.architectures.trial import Trial, kinds, try_kind


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Types of models to try; all if none is given.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace docs/architectures.md.")] = False,
) -> None:
    """Print whether each architecture trains, exports to PEFT with equal logits, merges and generates."""
    known = [kind for kind, _ in kinds()]
    if unknown := [name for name in names or () if name not in known]:
        print(f"error: no type {unknown[0]!r} is tried{nearest(unknown[0], known)}", file=sys.stderr)
        raise typer.Exit(2)
    if names and write:
        print("error: --write needs all types; name none", file=sys.stderr)
        raise typer.Exit(2)
    text = page([*_trials(names or known)])
    if write:
        PAGE.write_text(text, encoding="utf-8")
    print(text)


def _trials(names: list[str]) -> Iterator[Trial]:
    chosen = [(kind, task) for kind, task in kinds() if kind in names]
    for done, (kind, task) in enumerate(chosen, 1):
        with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
            trial = try_kind(kind, task, Path(folder))
        answers = ", ".join(f"{question} {answer}" for question, answer in trial.answers.items())
        print(f"{done}/{len(chosen)}  {kind}: {answers}", file=sys.stderr, flush=True)
        yield trial


if __name__ == "__main__":
    typer.run(main)
