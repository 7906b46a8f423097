"""States that follow each other without chance; as a program, it commits them to a journal until it is killed."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from common.adapters.adapter import Adapter, Factors
from server.algorithms.state import State
from server.storage.journal import Journal

Bits = tuple[int, float, Mapping[str, Mapping[str, bytes]]]


def first_state() -> State:
    """Round 0; `global` holds float32 values, as they are broadcast."""
    return State(0, {"global": _noise(0).astype("float32"), "kept": _noise(1)}, 0.0)


def next_state(state: State) -> State:
    """Return the next state, which depends on every bit of this one."""
    number = state.round + 1
    noise, kept = _noise(number), state.parts["kept"]
    mixed = {name: Factors(f.a / 3 + noise[name].a, f.b / 3 + noise[name].b) for name, f in kept.items()}
    return State(number, {"global": Adapter(mixed).astype("float32"), "kept": Adapter(mixed)}, state.dropped + 0.1)


def undisturbed() -> Iterator[State]:
    """All states, by a process that nothing stops."""
    state = first_state()
    while True:
        yield state
        state = next_state(state)


def bits(state: State) -> Bits:
    """Return bits that are equal for equal states; `global` as it is broadcast, in float32."""
    parts = {"global": state.parts["global"].astype("float32"), "kept": state.parts["kept"]}
    arrays = {part: {name: x.tobytes() for name, x in adapter.arrays().items()} for part, adapter in parts.items()}
    return state.round, state.dropped, arrays


def commit(journal: Journal) -> State:
    """Commit the next state and return it."""
    state = next_state(journal.last_state()) if journal.entries else first_state()
    journal.commit(state, {"adapter_hash": f"hash of {state.round}", "clients": ["ada", "bob"]})
    return state


def _noise(seed: int) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter({name: Factors(rng.standard_normal((1, 3)), rng.standard_normal((2, 1))) for name in ("q", "v")})


if __name__ == "__main__":
    with Journal.open(Path(sys.argv[1])) as committed:
        while True:
            commit(committed)
