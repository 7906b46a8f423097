"""The nodes of a round: those that train in it, and those that are asked about the state it begins with."""

from collections.abc import Mapping, Sequence

from common.protocol.announcement import Announcement
from common.seeding import rng
from server.metrics.clients import ClientMetrics
from server.rounds.participants import Participants
from server.rounds.quorum import Silence, Waiting
from server.rounds.run_settings import RunSettings
from server.storage.journal import Journal


class Cohorts:
    """Chooses nodes of a run, and says how long they are waited for.

    Args:
        participants: of the run.
        settings: of the run.
        silence: of its nodes.
        journal: of the run, whose log tells how long rounds took.
    """

    def __init__(self, participants: Participants, settings: RunSettings, silence: Silence, journal: Journal) -> None:
        self._participants, self._settings = participants, settings
        self._silence, self._journal = silence, journal

    def training(self, number: int) -> tuple[str, ...]:
        """Return the names of the nodes that train in round `number`, if it began now."""
        available = self._silence.available(number)
        return sample_cohort(available, self._settings.server.cohort, self._settings.seed, number)

    def records(self, number: int, losses: Mapping[str, float]) -> dict[str, ClientMetrics]:
        """Return a record of each node that trains in round `number`, with its loss before, where it has one."""
        nodes = [self._participants.nodes[name] for name in self.training(number)]
        return {node.name: _record(node, losses.get(node.name)) for node in nodes}

    def awake(self, number: int) -> dict[int, str]:
        """Return the nodes to ask about the state of round `number`, by Flower's number, in order of name."""
        names = [name for name in self._participants.nodes if not self._silence.rests(name, number)]
        return {self._participants.ids[name]: name for name in sorted(names)}

    def waiting(self, number: int, enough: int | None = None) -> Waiting:
        """Return how nodes are waited for that are asked about the state of round `number`.

        Args:
            number: of the round.
            enough: replies after which the others have a grace; the quorum if not set.
        """
        return Waiting(
            self._silence, number, self._settings.quorum if enough is None else enough, self._journal.entries
        )

    def are_enough_left(self) -> bool:
        """Return whether a quorum of nodes is still connected."""
        self._participants.refresh()
        return len(self._participants.nodes) >= self._settings.quorum


def _record(node: Announcement, loss: float | None) -> ClientMetrics:
    predictions = node.rows if node.predictions is None else node.predictions
    return ClientMetrics(node.name, node.rank, node.rows, predictions, node.skipped, loss_before=loss)


def sample_cohort(names: Sequence[str], size: int | None, seed: int, number: int) -> tuple[str, ...]:
    """Return the nodes that train in round `number`, in order of name; a seeded sample if more than `size`."""
    ordered = sorted(names)
    if size is None or size >= len(ordered):
        return tuple(ordered)
    chosen = rng(seed, "cohort", number).choice(len(ordered), size, replace=False)
    return tuple(ordered[index] for index in sorted(chosen))
