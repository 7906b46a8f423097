"""Earlier runs of the project, whose last update a node of this run lacks: it is sent them, one after another.

Nothing waits for that: a request goes out as the node becomes ready, and its reply is taken when the run looks up next.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from common.errors import FedloraError, JournalError
from common.identity.credentials import ServerCredentials
from common.log_format import event
from common.plain_files import read_plain
from common.protocol.messages import RejectionReason
from common.protocol.payload import Kind, Payload
from server.farewell.last_update import LastUpdate
from server.farewell.past_runs import load_last_update, past_runs
from server.rounds.observer import RunObserver
from server.storage.journal_reader import log_path

TRIES = 8
"""Connections of one node in which it is sent what one run ended with, at most."""

log = logging.getLogger(__name__)


class Post(Protocol):
    """Sends requests for whose replies nobody waits."""

    def post(self, kind: Kind, payload: Payload, node: int, number: int) -> tuple[str, float] | None:
        """Send a payload of round `number`; return its id and when its reply is late, None if the node is gone."""
        ...

    def answers(self, ids: Iterable[str]) -> Iterable[tuple[str, Payload | RejectionReason]]:
        """Return the replies to these messages that have arrived, by id."""
        ...


@dataclass
class _Node:
    """A node, the runs that it lacks, and the one that it was sent last: id, folder and when its reply is late."""

    name: str
    runs: list[str]
    sent: tuple[str, Path, float] | None = None
    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)


class EarlierEndings(RunObserver):
    """Sends the last updates of earlier runs, each once a connection; whatever fails is logged, and this run goes on.

    Args:
        run_folder: of this run; earlier ones are beside it.
        own: identity of this run.
        credentials: of the server, which signs.
        post: sends.
        members: returns the names of the nodes that may take part now.
    """

    def __init__(
        self,
        run_folder: Path,
        own: str,
        credentials: ServerCredentials,
        post: Post,
        members: Callable[[], Collection[str]],
    ) -> None:
        self._runs, self._own, self._credentials = run_folder.absolute().parent, own, credentials
        self._post, self._members = post, members
        self._nodes: dict[int, _Node] = {}
        self._loaded: tuple[tuple[Path, int], LastUpdate] | None = None
        self._tries, self._said = Counter[tuple[str, str]](), set[str]()

    @property
    def is_busy(self) -> bool:
        """Whether a node has not answered yet."""
        return bool(self._nodes)

    def on_node_ready(self, number: int, name: str, unfinished: Sequence[str]) -> None:
        """Send a node that has just become ready the first of the runs that it lacks."""
        if runs := [run for run in unfinished if run != self._own]:
            self._nodes[number] = _Node(name, runs)
            self.on_look()

    def on_look(self) -> None:
        """Take the replies that have arrived, and send each node that has answered the next of its runs."""
        if not self._nodes:
            return
        try:
            self._take()
            for number in [number for number, node in self._nodes.items() if node.sent is None]:
                self._send_next(number)
        except Exception as error:  # Whatever an earlier run has left, this one goes on.
            self._nodes.clear()
            self._say(f"earlier runs are not answered for: {error!r}", run="", node="", reason=repr(error))
        if not self._nodes:
            self._loaded = None

    def _take(self) -> None:
        waiting = {node.sent[0]: node for node in self._nodes.values() if node.sent}
        for message, answer in self._post.answers(list(waiting)):
            if node := waiting.pop(message, None):
                self._note(node, answer)
        for node in waiting.values():
            if node.sent and time.monotonic() > node.sent[2]:
                self._note(node, "absent")

    def _note(self, node: _Node, answer: Payload | RejectionReason) -> None:
        assert node.sent
        run, node.sent = node.sent[1].name, None
        if isinstance(answer, Payload):
            log.info(
                "the last adapter of the earlier run %s is saved at %s",
                run,
                node.name,
                extra=event("earlier-saved", run=run, node=node.name),
            )
        elif answer == "absent":
            node.runs.clear()  # It is asked again when it connects.
        else:
            what = (
                f"node {node.name} has not saved the last adapter of the earlier run {run} ({answer}); its log says why"
            )
            self._say(what, run=run, node=node.name, reason=answer)

    def _send_next(self, number: int) -> None:
        node = self._nodes[number]
        while node.runs and node.sent is None:
            self._send(number, node, node.runs.pop(0))
        if node.sent is None:
            del self._nodes[number]

    def _send(self, number: int, node: _Node, run: str) -> None:
        """Send a node what one run ended with, if there is such a run, and the node may have it."""
        node.folders = node.folders or past_runs(self._runs)
        folders = node.folders.get(run, ())
        if not folders or node.name not in self._members() or self._tries[node.name, run] >= TRIES:
            return
        self._tries[node.name, run] += 1
        try:
            update = self._load(folders)
        except (FedloraError, OSError) as error:
            what = f"an earlier run is not answered for: {error}"
            self._say(what, run=folders[0].name, node=node.name, reason=str(error))
            return
        if sent := self._post.post("evaluate", update.to_nodes_of_another(), number, update.round_id.round):
            node.sent = sent[0], folders[0], sent[1]

    def _load(self, folders: Sequence[Path]) -> LastUpdate:
        """Load what the run in a folder has ended with; in several, of which one is a copy of another, in the first."""
        if len({read_plain(log_path(folder / "journal")) for folder in folders}) > 1:
            raise JournalError(
                f"{' and '.join(map(str, folders))} are of one run and differ; move all but one elsewhere"
            )
        key = folders[0], log_path(folders[0] / "journal").stat().st_mtime_ns
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = key, load_last_update(folders[0], self._credentials)
        return self._loaded[1]

    def _say(self, text: str, **facts: str) -> None:
        """Log why a node does not get what it lacks, once."""
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text, extra=event("earlier-missed", **facts))
