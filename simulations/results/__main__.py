"""Run a comparison: `python -m simulations.results skew [--folder FOLDER] [--seeds N] [--workers N]`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from common.errors import ConfigError, FedloraError, look_up
from simulations.results.compare import choose_rates, compare
from simulations.results.figure import draw
from simulations.results.records import Records, open_folder
from simulations.results.table import lines_of, page
from simulations.results.tasks import TASKS, Task, first_trials

HERE = Path(__file__).parent


def main(
    name: Annotated[str, typer.Argument(metavar="TASK", help=f"One of {', '.join(TASKS)}.")],
    folder: Annotated[Path, typer.Option(help="Folder of the records; a trial that has one is not run again.")] = Path(
        "runs/results"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 only writes table and figure.")] = 1,
) -> None:
    """Compare rules at equal client compute; writes a table and a figure beside this file."""
    try:
        task, records = look_up(TASKS, "TASK", name), Records(open_folder(folder) / f"{name}.jsonl")
        if workers:
            compare(task, records, seeds, workers, lambda line: print(line, file=sys.stderr, flush=True))
        _write(name, task, records)
    except FedloraError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _write(name: str, task: Task, records: Records) -> None:
    found = lines_of(task, choose_rates(first_trials(task), records), records)
    if not found:
        first, second = task.methods[:2]
        raise ConfigError(f"there are no records of {first.name} and {second.name} yet; run it with --workers 1")
    text = page(task, found, records, f"python -m simulations.results {name}", f"{name}.svg")
    (HERE / f"{name}.md").write_text(text, encoding="utf-8")
    draw(task.title, found, HERE / f"{name}.svg", task.axis)
    print(text)


if __name__ == "__main__":
    typer.run(main)
