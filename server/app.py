"""Flower's ServerApp: reads the run's settings, then serves rounds until the last one is committed.

The grid that starts it passes one setting, `run`: the folder with `config.toml`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.closed_folders import close_run, closed_to_others
from common.errors import ConfigError
from common.huggingface.base_folder import public_name
from common.settings.reader import values_of
from common.settings.recipe import Recipe, StartSettings
from common.settings.resume import read_run_settings
from common.settings.server import RunBase
from server.monitoring.console import ConsoleLog
from server.rounds.evaluation import Test
from server.rounds.loop import RoundLoop
from server.rounds.observer import Observers, RunObserver
from server.rounds.run_settings import RunSettings
from server.run_folder import RunFolder
from server.run_model import find_model
from server.storage.journal import Journal
from server.storage.journal_reader import has_begun
from server.transport.flower_messenger import FlowerMessenger

DEADLINE = 86_400.0
"""Seconds that a node has for each reply."""


def make_app(observer: RunObserver | None = None, test: Test | None = None) -> ServerApp:
    """Make the app.

    Args:
        observer: notified of each event.
        test: measures each global update on rows of the run's owner.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        folder = RunFolder(_run_folder(context.run_config))
        with closed_to_others():
            close_run(folder.path)
            run(grid, folder)

    def run(grid: Grid, folder: RunFolder) -> None:
        recipe = read_run_settings(Recipe, folder.config)
        start, name = values_of(StartSettings, recipe.base), recipe.base.name or public_name(recipe.base.path)
        named = RunBase(file=_base_file(folder), name=name, **start)
        with Journal.open(folder.journal, recipe.server.keep_updates) as journal:
            model, name = find_model(named, recipe.lora, journal, folder.adapter, recipe.clients.ranks)
            folder.restore(journal.entries)
            observers = Observers([folder, *([observer] if observer else [])])
            settings, messenger = RunSettings.from_recipe(recipe), FlowerMessenger(grid, DEADLINE)
            RoundLoop(messenger, settings, model, journal, observers, folder.publisher(name), test).run()

    return app


def _base_file(folder: RunFolder) -> str | None:
    """Return the run's own base.toml; a run that began before there was one describes itself."""
    return str(folder.base) if folder.base.is_file() or not has_begun(folder.journal) else None


def _run_folder(config: Mapping[str, Any]) -> Path:
    run = Path(str(config.get("run", "")))
    if not (run / "config.toml").is_file():
        raise ConfigError(
            f"run = {str(config.get('run', ''))!r} is not a run folder: it has no config.toml; make one with "
            "`fedlora simulate RECIPE --prepare`, and give its absolute path: --run-config 'run=\"/path/of/the/run\"'"
        )
    return run


app = make_app(ConsoleLog(logging.getLogger("flwr")))
