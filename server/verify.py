"""`fedlora verify`: checks a run's log, checkpoints and adapter, and recomputes the rounds whose updates it keeps."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from common.adapters.adapter import Adapter
from common.closed_folders import check_named, check_run
from common.errors import CodecError, FedloraError, JournalError, RunError
from common.hash_chain import Chain, Entry
from common.huggingface.model_description import ModelDescription
from common.huggingface.start_adapter import fit_start, load_start
from common.published import check_published
from common.settings.reader import read_toml
from common.settings.recipe import Recipe, StartSettings
from common.settings.resume import read_run_settings
from common.settings.server import ServerFile
from server.algorithms import Algorithm
from server.planning.plan import is_consistent
from server.recompute import TOLERANCE, Recomputation, distance
from server.rounds.log_line import adapter_hash
from server.rounds.participants import RunModel
from server.rounds.run_settings import RunSettings, algorithm_of
from server.storage import checkpoints
from server.storage.journal import state_of
from server.storage.journal_reader import verify_chain
from server.storage.kept_updates import checkpoint_before, kept_folder, read_kept


def verify_run(run: Path) -> list[str]:
    """Check a run, and return what was checked, one line for each part. Changes nothing.

    Raises:
        JournalError: a file was changed or is missing, or the log is not what the kept updates give; names file, round
            and remedy.
    """
    check_named(run)
    check_run(run)
    chain = verify_chain(run / "journal")
    if not chain.entries:
        return ["intact: no round yet"]
    try:
        check_published(run)
        start = [*_compare_plan(run, chain.entries[0]), *_compare_start(run, chain.entries)]
        differences = _recompute(run, chain.entries)
        last = chain.entries[-1]
        whole = f"intact: rounds 0 to {last['round']}, last adapter {last['adapter_hash']}"
    except (KeyError, TypeError, AttributeError) as error:
        log = run / "journal" / "log.jsonl"
        raise JournalError(f"{log}: a line lacks what a release writes ({error!r}); restore it from a copy") from None
    return [whole, *start, *_report(chain, differences)]


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


def _compare_plan(run: Path, first: Entry) -> list[str]:
    """Give modules their ranks again, where the run has a budget, and say with what result."""
    if "plan" not in first:
        return []
    if not is_consistent(first["plan"], ModelDescription.from_values(first["model"]).shapes):
        raise JournalError(f"{run / 'journal'} (round 0): the ranks are not those that the nodes' energies give")
    return [f"ranks of {len(first['plan']['ranks'])} modules given again by the sums of energies: the same"]


def _compare_start(run: Path, entries: Sequence[Entry]) -> list[str]:
    """Compare round 0 with the adapter that the run began at, if any, and say with what result."""
    if not (run / "config.toml").is_file():
        return []
    first, (settings, base) = entries[0], _read_settings(run, entries[0])
    if not base.adapter_hash:
        return []
    try:
        stored = load_start(base)
    except FedloraError:
        return [f"round 0 checked by the log alone: its adapter {base.adapter_hash:.12} is not in {base.adapter}"]
    if "head" in first:
        return ["round 0 checked by the log alone: a head in closed form was made in it"]
    description = ModelDescription.from_values(first["model"])
    algorithm = algorithm_of(settings, RunModel.begun(first, description))
    start = fit_start(stored, str(base.adapter), description)
    begun = algorithm.broadcast_update(algorithm.initial(description.shapes, start))
    if adapter_hash(begun) == first["adapter_hash"]:
        return [f"round 0 begins at the adapter in {base.adapter}: same bits"]
    return [_compare_bits(run, algorithm, begun, first)]


def _compare_bits(run: Path, algorithm: Algorithm, begun: Adapter, first: Entry) -> str:
    """Return how near round 0 is to the update that this build begins with.

    Raises:
        JournalError: it is another update.
    """
    journal = run / "journal"
    for file in (checkpoints.checkpoint_path(journal, 0), checkpoint_before(journal, 1)):
        if checkpoints.is_intact(file, first):
            sent = algorithm.broadcast_update(state_of(first, checkpoints.load_checkpoint(file)))
            gap = distance(sent, begun)
            if adapter_hash(sent) != first["adapter_hash"] or gap > TOLERANCE:
                raise JournalError(f"{journal} (round 0) does not begin at the run's adapter; restore it from a copy")
            return f"round 0 begins at the run's adapter: within {gap:.1e}, on another build than the run's"
    return "round 0 has other bits than this build gives, and its state is no longer there to compare"


def _recompute(run: Path, entries: Sequence[Entry]) -> dict[int, float]:
    """Return the relative difference of each round whose updates are kept."""
    differences, settings = {}, None
    for entry in entries[1:]:
        folder = kept_folder(run / "journal", entry["round"])
        if not folder.is_dir():
            continue
        settings = settings or _read_settings(run, entries[0])[0]
        try:
            if (facts := read_kept(run / "journal", entry)) is not None:
                each = Recomputation(run / "journal", entries, entry["round"], settings, facts)
                differences[entry["round"]] = each.run()
        except (OSError, RunError) as error:
            if folder.is_dir():  # else the running server has just removed it
                raise JournalError(f"{folder} (round {entry['round']}) cannot be read: {error}; try again") from None
        except JournalError:
            if folder.is_dir():  # else a file of it was found missing for the same reason
                raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, CodecError) as error:
            raise JournalError(
                f"{folder} (round {entry['round']}) is not what a round keeps ({error!r}); restore the run from a copy"
            ) from None
    return differences


def _read_settings(run: Path, first: Entry) -> tuple[RunSettings, StartSettings]:
    """Return the settings of a run, and its [base], from the file that it has kept since it began."""
    file, base = run / "config.toml", StartSettings()
    if "project" in read_toml(file, links=False):
        server = read_run_settings(ServerFile, file)
        settings, base = RunSettings.from_server_file(server), server.base
    else:
        recipe = read_run_settings(Recipe, file)
        settings, base = RunSettings.from_recipe(recipe), recipe.base
    if settings.config != first["config"]:
        raise JournalError(
            f"{file} (round 0) is changed: it has hash {settings.config:.12}, and the run began with "
            f"{first['config']:.12}; restore it from a copy"
        )
    return settings, base


def _spell(numbers: Iterable[int]) -> str:
    """Return the rounds in words, as "rounds 1 to 3, 5"."""
    numbers = list(numbers)
    groups = [[n for _, n in group] for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    spelt = ", ".join(f"{group[0]} to {group[-1]}" if len(group) > 1 else str(group[0]) for group in groups)
    return f"{'rounds' if len(numbers) > 1 else 'round'} {spelt}"
