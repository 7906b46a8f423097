"""`python -m tests.chaos`: run plans by seed, and say of each whether everything holds afterwards.

python -m tests.chaos --runs 200 --jobs 2       the seeds 0 to 199
python -m tests.chaos --runs 1 --seed 17        one of them again; its folder is kept
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import fedlora  # noqa: F401  sets the environment of NumPy and gRPC before these are imported
from tests.chaos.campaign import Result, run_all


def main() -> int:
    """Run, print a line a run, and return the exit status."""
    words = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    words.add_argument("--runs", type=int, default=20, help="number of runs")
    words.add_argument("--seed", type=int, default=0, help="seed of the first; the others follow")
    words.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    words.add_argument("--folder", type=Path, help="for the runs' folders; a new temporary one if not given")
    given = words.parse_args()
    folder = given.folder or Path(mkdtemp(prefix="chaos-"))
    seeds = range(given.seed, given.seed + given.runs)
    results: list[Result] = []
    for result in run_all(seeds, given.jobs, folder, keep=given.runs == 1):
        results.append(result)
        print(f"[{len(results)}/{given.runs}] {result}", flush=True)
    failed = sorted(result.seed for result in results if result.faults)
    skipped = sum(len(result.skipped) for result in results)
    seconds = sum(result.seconds for result in results) / len(results)
    print(f"{len(results) - len(failed)} of {len(results)} hold; {seconds:.1f} s a run; {skipped} faults skipped")
    met = sum((result.met for result in results), Counter())
    print("faults met:", ", ".join(f"{kind} {count}" for kind, count in sorted(met.items())))
    if failed:
        print(f"failed seeds: {', '.join(map(str, failed))}; again: python -m tests.chaos --runs 1 --seed {failed[0]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
