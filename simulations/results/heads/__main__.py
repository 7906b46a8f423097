"""Heads in closed form beside trained ones: `python -m simulations.results.heads [--folder F] [--seeds N]`.

Each method ends with the bits of `fedlora simulate`, but for where it stops: `alone` trains nothing, and `start` leaves
out the refit.
"""

import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from common.errors import ConfigError, FedloraError
from simulations.results.compare import begin_worker
from simulations.results.heads.cases import CASES, Case
from simulations.results.heads.page import page
from simulations.results.heads.trial import run_trial
from simulations.results.records import Records, open_folder

PAGE = Path(__file__).parents[1] / "heads.md"


def main(
    folder: Annotated[Path, typer.Option(help="Folder of the records.")] = Path("runs/results"),
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 only writes the table.")] = 1,
) -> None:
    """Compare heads in every case; writes `heads.md` in simulations/results."""
    try:
        open_folder(folder)
        records = {case: Records(folder / f"heads-{number:02d}.jsonl") for number, case in enumerate(CASES)}
        if workers:
            _run(records, seeds, workers)
        if not any(record.method == "trained" for found in records.values() for record in found):
            raise ConfigError(f"there are no records of trained heads in {folder} yet; run it with --workers 1")
        text = page(records)
        PAGE.write_text(text, encoding="utf-8")
        print(text)
    except FedloraError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _run(records: Mapping[Case, Records], seeds: int, workers: int) -> None:
    asked = [(s, case, head) for s in range(1, seeds + 1) for case in CASES for head in ("trained", "lda", "means")]
    left = [(case, head, s) for s, case, head in asked if not _is_done(records[case], head, s)]
    with ProcessPoolExecutor(workers, get_context("spawn"), begin_worker) as pool:
        running = {pool.submit(run_trial, *each): each for each in left}
        for done, future in enumerate(as_completed(running), 1):
            case, _, seed = running[future]
            for record in future.result():
                records[case].add(record)
                print(
                    f"{done}/{len(left)}  {case.title}, {record.method}, seed {seed}: {record.accuracy:.3f}", flush=True
                )


def _is_done(records: Records, head: str, seed: int) -> bool:
    return any(record.seed == seed and record.method.startswith(head) for record in records)


if __name__ == "__main__":
    typer.run(main)
