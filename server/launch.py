"""`fedlora server`: runs the aggregator over mutual TLS, from one file and one folder of keys, until its last round."""

import logging
import shlex
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from common.adapters.link_codecs import forms_of
from common.closed_folders import close_run, closed_to_others
from common.errors import IdentityError, JournalError, naming_command
from common.hash_chain import Entry
from common.huggingface.start_adapter import pin_adapter
from common.identity.credentials import ServerCredentials, load_server_credentials
from common.identity.documents.signatures import Return, sign
from common.identity.keys.files import prefix_errors
from common.log_format import event
from common.settings.server import ServerFile
from common.signals import STOPS, exit_on_signal
from server.algorithms import weights_of
from server.farewell.earlier_endings import EarlierEndings
from server.farewell.farewell import Farewell
from server.farewell.last_update import LastUpdate
from server.limits import check_limits
from server.monitoring.console import ConsoleLog
from server.monitoring.metrics_endpoint import RunMetrics, serving_metrics
from server.monitoring.run_pages import RunPages
from server.monitoring.status import ServerStatus
from server.notifications import NoticeBroadcaster, Notices
from server.rounds.loop import Publisher, RoundLoop, load_published
from server.rounds.observer import Observers
from server.rounds.participants import RunModel
from server.rounds.run_settings import RunSettings, algorithm_of
from server.run_folder import RunFolder, open_run_folder
from server.run_model import find_model
from server.settings import read_server
from server.storage.journal import Journal
from server.storage.journal_reader import has_begun
from server.storage.seen_roster import SeenRoster
from server.transport.authorization import Keep, RosterGuard
from server.transport.flower_messenger import FlowerMessenger
from server.transport.grid import GrpcGrid, NodeGuard
from server.transport.listener import raise_open_file_limit
from server.transport.quota import NodeQuota

log = logging.getLogger(__name__)


def serve(file: Path, from_round: int | None = None) -> Path:
    """Serve all rounds of a run, and return its folder.

    A run that has already begun in the folder is resumed. SIGINT, SIGTERM and SIGHUP end the process at once, with
    status 0.

    Args:
        file: the server's own file.
        from_round: leave the rounds after this one, and go on from there.

    Raises:
        FedloraError: a setting or key is wrong, another server uses the folder or the port, or a round failed.
    """
    raise_open_file_limit()
    settings = _read_settings(file)
    credentials = _credentials(settings)
    with closed_to_others():
        close_run(Path(settings.folder))
        _serve(file, settings, credentials, from_round)
    return Path(settings.folder)


def _read_settings(file: Path) -> ServerFile:
    """Return a server's settings, with the hash of the adapter that the run begins with."""
    settings = read_server(file)
    begun = has_begun(Path(settings.folder) / "journal")
    return replace(settings, base=pin_adapter(settings.base, begun))


def _serve(file: Path, settings: ServerFile, credentials: ServerCredentials, from_round: int | None) -> None:
    if from_round is not None:
        return_to_round(settings, credentials, from_round)
    again = shlex.join(["fedlora", "server", str(file)])
    stopped = exit_on_signal(*STOPS, status=0, message=f"stopped; resume with: {again}")
    with stopped, naming_command(again):
        _run(settings, credentials)


def return_to_round(settings: ServerFile, credentials: ServerCredentials, number: int) -> None:
    """Let a run go back to the end of a round, by a line of its log that the server signs.

    Raises:
        JournalError: no run has begun, or it cannot go back to this round.
        ConfigError: the settings are not the run's.
    """
    journal_folder = Path(settings.folder) / "journal"
    if not has_begun(journal_folder):
        raise JournalError(f"--from-round {number}: {settings.folder} has no committed round; start without it")
    with Journal.open(journal_folder, settings.server.keep_updates) as journal:
        _keep_roster(settings, credentials)
        open_run_folder(settings, begun=True)
        last = len(journal.entries) - 1
        journal.go_back(number, partial(_sign_return, credentials))
    what = "run %s went back to the end of round %s: %s later rounds are left"
    log.info(what, settings.run, number, last - number, extra=event("run-went-back", round=number, left=last - number))


def _sign_return(credentials: ServerCredentials, entry: Entry) -> str:
    statement = Return(
        project=credentials.project, run=entry["config"], round=entry["round"], adapter_hash=entry["adapter_hash"]
    )
    return sign(statement, credentials.receipt_key).hex()


def _credentials(settings: ServerFile) -> ServerCredentials:
    credentials = load_server_credentials(Path(settings.keys))
    if credentials.project != settings.project:
        raise IdentityError(
            f"project = {settings.project!r}, but {settings.keys} contains the keys of {credentials.project!r}; "
            "set keys to the folder of this project"
        )
    for warning in (*credentials.warnings, *check_limits(settings, credentials.roster)):
        log.warning("%s", warning, extra=event("warning"))
    return credentials


def _run(settings: ServerFile, credentials: ServerCredentials) -> None:
    with Journal.open(Path(settings.folder) / "journal", settings.server.keep_updates) as journal:
        keep = _keep_roster(settings, credentials)
        ranks = [member.max_rank for member in credentials.roster.current(datetime.now(UTC))]
        model, name = find_model(settings.base, settings.lora, journal, Path(settings.folder) / "adapter", ranks)
        # Only now: the lock of the journal keeps a second server from rewriting the settings of this run.
        folder = open_run_folder(settings, begun=bool(journal.entries))
        folder.restore(journal.entries)
        publisher = folder.publisher(name)
        with (pages := RunPages(folder.path)).making():
            if len(journal.entries) > settings.rounds:
                what = "all %s rounds are done; set another `run` to train more"
                log.info(what, settings.rounds, extra=event("run-done", rounds=settings.rounds))
                if folder.has_told and time.time() >= _stays_until(settings, folder):  # Nobody waits for this server.
                    run = RunSettings.from_server_file(settings)
                    load_published(algorithm_of(run, model), model, journal, publisher)
                    return
            else:
                folder.unmark_told()
            _serve_rounds(settings, credentials, keep, journal, folder, model, publisher, pages)


def _keep_roster(settings: ServerFile, credentials: ServerCredentials) -> Keep:
    """Keep the roster in the run's journal, unless the run has seen a newer one; return what keeps the next."""
    seen = SeenRoster(Path(settings.folder) / "journal", credentials.roster_key)
    with prefix_errors(Path(settings.keys) / "roster.json"):
        seen.keep(credentials.roster, credentials.roster_bytes)
    return seen.keep


def _serve_rounds(
    settings: ServerFile,
    credentials: ServerCredentials,
    keep: Keep,
    journal: Journal,
    folder: RunFolder,
    model: RunModel,
    publisher: Publisher,
    pages: RunPages,
) -> None:
    own, weights = credentials, weights_of(settings.server)
    guard = RosterGuard(Path(settings.keys), own.roster, own.roster_bytes, weights, keep)
    notices = Notices(journal, guard, credentials)
    checks = guard.authorize_node, guard.authorize_reply
    rule = settings.server
    forms = forms_of(rule.codec, rule.wire, shares_a=rule.algorithm == "fedsgd" and rule.mode == "b")
    node_guard = NodeGuard(*checks, notices.on_connect, NodeQuota(), forms)
    with GrpcGrid(settings.listen, credentials, node_guard, folder.journal, settings.health) as grid:
        health = f"127.0.0.1:{grid.health_port}"
        extra = event("listening", address=settings.listen, health=health)
        log.info("listening at %s as %s; health at %s", settings.listen, settings.project, health, extra=extra)
        status = ServerStatus(folder.path, grid, settings.listen, health, guard.member_names)
        status.restore(journal.entries)
        metrics = RunMetrics(grid, guard.member_names)
        metrics.restore(journal.entries)
        console, broadcaster = ConsoleLog(log, guard.member_names), NoticeBroadcaster(grid, notices)
        messenger = FlowerMessenger(grid, settings.deadline, grid.name, grid)
        run = RunSettings.from_server_file(settings)
        earlier = EarlierEndings(folder.path, run.config, own, messenger, guard.member_names)
        observers = Observers([folder, status, metrics, console, broadcaster, pages, earlier])
        with status.heartbeat(), serving_metrics(settings.metrics, metrics) as metrics_port:
            if metrics_port is not None:
                log.info(
                    "metrics at http://127.0.0.1:%s/metrics", metrics_port, extra=event("metrics", port=metrics_port)
                )
            loop = RoundLoop(messenger, run, model, journal, observers, publisher, limit=guard.max_weight)
            loop.run()
            farewell = Farewell(loop, grid.names, lambda: LastUpdate.sign(*loop.last_update(), own), earlier)
            farewell.wait_for(journal.entries[-1])
            folder.mark_told()
            farewell.stay(_stays_until(settings, folder), guard.member_names)


def _stays_until(settings: ServerFile, folder: RunFolder) -> float:
    """Return the time, in seconds of the epoch, until which the server of an ended run sends the adapter."""
    return (folder.journal / "log.jsonl").stat().st_mtime + settings.keep_days * 86_400
