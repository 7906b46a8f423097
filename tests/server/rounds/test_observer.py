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


def test_a_new_event_is_told_to_all_without_a_line_for_it(monkeypatch):
    told, watching = [], [RunObserver(), RunObserver()]
    monkeypatch.setattr(RunObserver, "on_thaw", lambda self, degrees: told.append((self, degrees)), raising=False)
    Observers(watching).on_thaw(degrees=3)
    assert told == [(each, 3) for each in watching]


def test_several_observers_may_be_one_of_several():
    told, inner = [], RunObserver()
    inner.on_evaluating = told.append
    Observers([Observers([inner]), RunObserver()]).on_evaluating(4)
    assert told == [4]
