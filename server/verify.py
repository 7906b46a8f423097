"""`fedlora verify`: checks a run's log, checkpoints and adapter, and recomputes the rounds whose updates it keeps."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from common.closed_folders import check_run
from common.errors import CodecError, JournalError, RunError
from common.hash_chain import Chain, Entry
from common.published import check_published
from common.settings.reader import read_toml
from common.settings.recipe import Recipe
from common.settings.resume import read_run_settings
from common.settings.server import ServerFile
from server.recompute import Recomputation
from server.rounds.run_settings import RunSettings
from server.storage.journal_reader import verify_chain
from server.storage.kept_updates import kept_folder, read_kept


def verify_run(run: Path) -> list[str]:
    """Check a run, and return what was checked, one line for each part. Changes nothing.

    Raises:
        JournalError: a file was changed or is missing, or the log is not what the kept updates give; names file, round
            and remedy.
    """
    check_run(run)
    chain = verify_chain(run / "journal")
    if not chain.entries:
        return ["intact: no round yet"]
    try:
        check_published(run)
        differences, last = _recompute(run, chain.entries), chain.entries[-1]
        whole = f"intact: rounds 0 to {last['round']}, last adapter {last['adapter_hash']}"
    except (KeyError, TypeError, AttributeError) as error:
        log = run / "journal" / "log.jsonl"
        raise JournalError(f"{log}: a line lacks what a release writes ({error!r}); restore it from a copy") from None
    return [whole, *_report(chain, differences)]


def _report(chain: Chain, differences: dict[int, float]) -> list[str]:
    exact = [number for number, difference in differences.items() if not difference]
    near = [number for number, difference in differences.items() if difference]
    rest = [entry["round"] for entry in chain.entries[1:] if entry["round"] not in differences]
    worst = max(differences.values(), default=0.0)
    return [
        *([f"{_spell(exact)} recomputed: same bits"] if exact else []),
        *([f"{_spell(near)} recomputed: within {worst:.1e}, on another build than the run's"] if near else []),
        *([f"{_spell(rest)} checked by the log alone: their updates are not kept"] if rest else []),
        *([f"{chain.left} round{'s' * (chain.left > 1)} left by going back; they do not count"] if chain.left else []),
    ]


def _recompute(run: Path, entries: Sequence[Entry]) -> dict[int, float]:
    """Return the relative difference of each round whose updates are kept."""
    differences, settings = {}, None
    for entry in entries[1:]:
        folder = kept_folder(run / "journal", entry["round"])
        if not folder.is_dir():
            continue
        settings = settings or _settings(run, entries[0])
        try:
            if (facts := read_kept(run / "journal", entry)) is not None:
                each = Recomputation(run / "journal", entries, entry["round"], settings, facts)
                differences[entry["round"]] = each.run()
        except (OSError, RunError) as error:
            if folder.is_dir():  # else the running server has just removed it
                raise JournalError(f"{folder} (round {entry['round']}) cannot be read: {error}; try again") from None
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, CodecError) as error:
            raise JournalError(
                f"{folder} (round {entry['round']}) is not what a round keeps ({error!r}); restore the run from a copy"
            ) from None
    return differences


def _settings(run: Path, first: Entry) -> RunSettings:
    """Return the settings of a run, from the file that it has kept since it began."""
    file = run / "config.toml"
    if "project" in read_toml(file, links=False):
        settings = RunSettings.from_server_file(read_run_settings(ServerFile, file))
    else:
        settings = RunSettings.from_recipe(read_run_settings(Recipe, file))
    if settings.config != first["config"]:
        raise JournalError(
            f"{file} (round 0) is changed: it has hash {settings.config:.12}, and the run began with "
            f"{first['config']:.12}; restore it from a copy"
        )
    return settings


def _spell(numbers: Iterable[int]) -> str:
    """Return the rounds in words, as "rounds 1 to 3, 5"."""
    numbers = list(numbers)
    groups = [[n for _, n in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    spelt = ", ".join(f"{group[0]} to {group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)
    return f"{'rounds' if len(numbers) > 1 else 'round'} {spelt}"
