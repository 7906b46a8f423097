import inspect

import pytest

from server.rounds.observer import Observers, RunObserver

EVENTS = {name: method for name, method in vars(RunObserver).items() if not name.startswith("_")}


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_is_told_to_all(name):
    words, told, watching = list(inspect.signature(EVENTS[name]).parameters)[1:], [], [RunObserver(), RunObserver()]
    for each in watching:
        setattr(each, name, lambda *said, each=each: told.append((each, said)))
    getattr(Observers(watching), name)(*words)
    assert told == [(each, tuple(words)) for each in watching]


def test_there_are_events():
    assert {"on_waiting", "on_run_started", "on_client_done", "on_round_committed"} <= EVENTS.keys()
