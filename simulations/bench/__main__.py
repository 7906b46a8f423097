"""Run the benches: `python -m simulations.bench [NAMES] [--write]`."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from simulations.bench.measure import GateError
from simulations.bench.table import page

BENCHES = {
    "grids": "grids",
    "step": "training.step",
    "codec": "codec",
    "footprint": "training.footprint",
    "held": "training.held",
    "transport": "transport.suite",
}
"""Each bench and its module in this package."""
README = Path(__file__).with_name("README.md")


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Some of {', '.join(BENCHES)}; all by default.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Replace the table in README.md.")] = False,
) -> None:
    """Measure ours against a peer, on an otherwise idle machine. Exits 1 if a bound is missed or results differ."""
    chosen = names or list(BENCHES)
    if unknown := sorted({*chosen} - {*BENCHES}):
        raise typer.BadParameter(f"{', '.join(unknown)}; choose from {', '.join(BENCHES)}")
    comparisons = []
    for name in chosen:
        print(f"measuring {name}", file=sys.stderr)
        try:
            comparisons += import_module(f"simulations.bench.{BENCHES[name]}").measure()
        except GateError as error:
            sys.exit(f"{name}: {error}")
    command = "make bench" if chosen == list(BENCHES) else f"python -m simulations.bench {' '.join(chosen)}"
    text = page(comparisons, command)
    print(text)
    if write:
        README.write_text(text, encoding="utf-8")
    sys.exit(0 if all(comparison.holds for comparison in comparisons) else 1)


if __name__ == "__main__":
    typer.run(main)
