"""The command `fedlora study`."""

from pathlib import Path
from typing import Annotated

import typer

from common.log_format import LogFormat, log_to_stderr

app = typer.Typer()
NAMES = (
    *("amplification", "baselines", "budget", "latency", "low-data", "memory", "parameters", "placement", "rank"),
    *("redundancy", "skew", "subspace"),
)


@app.command()
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"Of the study: {', '.join(NAMES)}.")],
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file, see simulations/recipes/.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. train.rounds=3.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the study's folder is made.")] = Path("runs"),
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds; by default the study's own.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few steps, rows, arms and seeds: shows that it runs.")
    ] = False,
    federated: Annotated[
        bool,
        typer.Option("--federated", help="Train the adapters by the recipe's clients and its rule, not centrally."),
    ] = False,
) -> None:
    """Measure a claim of the LoRA paper (arXiv 2106.09685) on a recipe's base and rows.

    Writes a page with a table, a figure and what was found, and the same numbers as JSON. Rates are chosen on held-out
    rows of the first seed. The same command goes on with a study that was stopped. docs/lora-paper.md has them all.
    """
    from simulations.studies.command import run_study

    log_to_stderr(LogFormat.TEXT)
    print(f"page: {run_study(name, recipe, settings or [], out, seeds, quick, federated)}")
