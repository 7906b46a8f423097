"""A committed round, recomputed from its kept replies by the code of a round, and compared with the run's log."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from math import isclose, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.adapters import lowrank
from common.adapters.adapter import Adapter, Factors
from common.errors import CodecError, JournalError
from common.hash_chain import Entry
from common.huggingface.model_description import ModelDescription
from common.plain_files import read_plain
from common.protocol.messages import RejectionReason, RoundId
from common.protocol.payload import Kind, Payload
from server.algorithms import Algorithm
from server.algorithms.state import State
from server.heads.recorded import head_from_facts
from server.links.links import Links
from server.metrics.clients import ClientMetrics
from server.metrics.exactness import measure_exactness
from server.rounds.log_line import adapter_hash
from server.rounds.observer import RunObserver
from server.rounds.participants import Participants, RunModel
from server.rounds.phases import Accepted, PhaseRunner
from server.rounds.run_settings import RunSettings, algorithm_of
from server.storage import checkpoints, kept_updates, spool
from server.storage.journal import state_of

TOLERANCE = 1e-6
"""Largest relative difference of a round that another build of NumPy recomputes."""


class KeptReplies:
    """A messenger whose nodes answer with the replies that were kept of a round."""

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        kept = kept_updates.kept_replies(folder, facts)
        self._files = {(phase, name): (update, values) for phase, name, update, values in kept}
        asked = {name for _, name in self._files}.union(facts.get("asked", ()))
        self.ids = {name: number for number, name in enumerate(sorted(asked))}
        self._names = list(self.ids)

    @property
    def attempt(self) -> int:
        """The attempt that was committed: the last one in which anybody replied."""
        return max(int(_read(values)["attempt"]) for _, values in self._files.values())

    def nodes(self) -> Collection[int]:
        """Return a number for each node."""
        return self.ids.values()

    def name(self, node: int) -> str:
        """Return the name of a node."""
        return self._names[node]

    def announcements(self, question: Payload, known: Collection[int]) -> Sequence[tuple[int, Payload]]:
        """Return nothing: the round has begun."""
        return ()

    def request(
        self, kind: Kind, payloads: Mapping[int, Payload], number: int, grace: object = None
    ) -> Iterator[tuple[int, Payload | RejectionReason]]:
        """Yield the reply that was kept of each node in this phase; `absent` if none was."""
        for node, payload in payloads.items():
            files = self._files.get((payload.values["phase"], self.name(node)))
            yield node, Payload(_read(files[1]), read_plain(files[0])) if files else "absent"


@dataclass(frozen=True)
class EarlierRounds:
    """The rounds before, for the code of a round, and a folder for its spool."""

    folder: Path
    entries: Sequence[Entry]

    def spool_path(self, name: str, phase: int = 1) -> Path:
        """Return the file for the reply of a node in a phase."""
        return spool.spool_path(self.folder, name, phase)


@dataclass(frozen=True)
class Recomputation:
    """A round to recompute.

    Args:
        journal: folder of the journal.
        entries: of the run, by round.
        number: of the round.
        settings: of the run.
        facts: kept beside the round's replies.
    """

    journal: Path
    entries: Sequence[Entry]
    number: int
    settings: RunSettings
    facts: Mapping[str, Any]

    def run(self) -> float:
        """Return the relative difference to the log; 0 for the same bits.

        Raises:
            JournalError: something in the log is not what the kept replies give; names it and the round.
        """
        model = RunModel.begun(self.entries[0], ModelDescription.from_values(self.facts["model"]))
        algorithm, before = algorithm_of(self.settings, model), self._before()
        with TemporaryDirectory() as scratch:
            replies, clients, phases = self._replies(), self._clients(), algorithm.phases
            links, folder = Links(replies, "plain"), Path(scratch)
            participants = Participants(replies, model, self.settings.lora.targets)
            participants.ids = replies.ids
            runner = PhaseRunner(
                replace(self.settings, quorum=1),
                phases,
                links,
                EarlierRounds(folder, self.entries[: self.number]),
                RunObserver(),
                self.facts["limits"].get,
            )
            steps = algorithm.round(before, partial(spool.spool_state, folder / ".state"))
            reduced = runner.run(steps, self._round_id(replies.attempt), clients, participants)
            if reduced is None:
                raise self._fault("no kept reply counts")
            self._compare_clients(clients, TOLERANCE)
            difference = self._compare_states(algorithm, self._with_head(algorithm, reduced.state), folder)
            tolerance = TOLERANCE if difference else 0.0
            exact = measure_exactness(algorithm, before, reduced.state, reduced.updates)
            self._compare_clients(clients, tolerance)
            self._compare_numbers(asdict(exact), tolerance)
            if not difference:
                self._compare_accepted(*reduced.accepted)
            return difference

    def _compare_accepted(self, *phases: Accepted) -> None:
        """Compare the log's lists of accepted updates, of the last phase and those before; earlier logs have none."""
        *earlier, last = phases
        if "accepted" in self._entry and (self._entry["accepted"], self._entry.get("earlier_phases", [])) != (
            last,
            earlier,
        ):
            raise self._fault("`accepted` or `earlier_phases` is not what the kept replies are")

    @property
    def _entry(self) -> Entry:
        return self.entries[self.number]

    def _replies(self) -> KeptReplies:
        return KeptReplies(kept_updates.kept_folder(self.journal, self.number), self.facts)

    def _before(self) -> State:
        file, entry = kept_updates.checkpoint_before(self.journal, self.number), self.entries[self.number - 1]
        if not checkpoints.is_intact(file, entry):
            raise self._fault(f"{file} is not the state after round {self.number - 1}")
        return state_of(entry, checkpoints.load_checkpoint(file))

    def _clients(self) -> dict[str, ClientMetrics]:
        """Return new records of the nodes that were asked; of an earlier log, of those that replied."""
        logged = {client["name"]: client for client in reversed(self._entry["metrics"]["clients"])}
        own = {name: logged[name] for name in self._replies().ids}
        keys = ("predictions", "skipped")
        return {
            name: ClientMetrics(name, c["rank"], c["rows"], *(c.get(key, 0) for key in keys)) for name, c in own.items()
        }

    def _round_id(self, attempt: int) -> RoundId:
        entry, parent = self._entry, self.entries[self.number - 1]["adapter_hash"]
        return RoundId(entry["config"], self.number, parent, entry["base"], attempt)

    def _compare_clients(self, clients: Mapping[str, ClientMetrics], tolerance: float) -> None:
        """Compare each node's update, counts, share and whatever else both have."""
        logged = {c["name"]: c for c in self._entry["metrics"]["clients"] if c["update"] is not None}
        found = {name: asdict(client) for name, client in clients.items() if client.update is not None}
        if logged.keys() != found.keys():
            raise self._fault(f"the log counts {', '.join(logged)}, and the kept replies are of {', '.join(found)}")
        for key in (each.name for each in fields(ClientMetrics) if each.name not in _NOT_RECOMPUTED):
            for name, record in found.items():
                if key in logged[name] and not _near(record[key], logged[name][key], tolerance):
                    raise self._fault(
                        f"{key} of {name} is {logged[name][key]} in the log, and {record[key]} recomputed"
                    )

    def _compare_states(self, algorithm: Algorithm, after: State, scratch: Path) -> float:
        """Return the relative difference of the global updates."""
        same = checkpoints.save_checkpoint(scratch / "after.state", after.parts) == self._entry["state_hash"]
        logged = after if same else self._logged_state()
        if adapter_hash(algorithm.broadcast_update(logged)) != self._entry["adapter_hash"]:
            raise self._fault("adapter_hash is not that of the state")
        pairs = [(view(after), view(logged)) for view in (algorithm.total_update, algorithm.broadcast_update)]
        difference = 0.0 if same else max(distance(*pair) for pair in pairs)
        if difference > TOLERANCE:
            raise self._fault(f"the kept replies give a state that differs by {difference:.1e}")
        return difference

    def _with_head(self, algorithm: Algorithm, state: State) -> State:
        """Return the state with the head in closed form that the round ended with, if any, made of its kept sums."""
        record, last = self._entry.get("head"), algorithm.settings.last
        if not record:
            return state
        try:
            head = head_from_facts(record, self.facts, algorithm.broadcast_update(state)[last].shape)
        except (KeyError, ValueError, CodecError):
            raise self._fault("the class sums behind its head are not kept, or are none") from None
        return algorithm.with_head(state, head) if head else state

    def _logged_state(self) -> State:
        """Load the state after the round, as it was committed."""
        places = (
            checkpoints.checkpoint_path(self.journal, self.number),
            kept_updates.checkpoint_before(self.journal, self.number + 1),
        )
        for place in places:
            if checkpoints.is_intact(place, self._entry):
                return state_of(self._entry, checkpoints.load_checkpoint(place))
        raise self._fault("the kept replies give another state, and the state after it is no longer there to compare")

    def _compare_numbers(self, found: Mapping[str, Any], tolerance: float) -> None:
        for key, value in found.items():
            if key in self._entry["metrics"] and not _near(value, self._entry["metrics"][key], tolerance):
                raise self._fault(f"{key} is {self._entry['metrics'][key]} in the log, and {value} recomputed")

    def _fault(self, what: str) -> JournalError:
        return JournalError(
            f"{self.journal / 'log.jsonl'} (round {self.number}): {what}; the log does not say what the server "
            "computed, or the settings are not the run's; restore the run from a copy"
        )


_NOT_RECOMPUTED = {"loss_before", "loss_after", "bytes_up", "bytes_down", "bytes_by_part"}
"""What nodes and the transport told of a client, beside its update."""


def _read(values: Path) -> dict[str, Any]:
    return dict(json.loads(read_plain(values)))


def _near(found: Any, logged: Any, tolerance: float) -> bool:
    if isinstance(found, float) and isinstance(logged, float):
        return isclose(found, logged, rel_tol=tolerance, abs_tol=tolerance)
    return bool(found == logged)


def distance(update: Adapter, other: Adapter) -> float:
    """Return ||dW - dW'|| / ||dW'|| over all modules."""
    gaps = (_gap(update[name], other[name]) for name in other)
    size = lowrank.total_norm(other.values())
    return sqrt(sum(gap**2 for gap in gaps)) / (size or 1.0)


def _gap(factors: Factors, other: Factors) -> float:
    return lowrank.norm(lowrank.stack([(1.0, factors), (-1.0, other)]))
