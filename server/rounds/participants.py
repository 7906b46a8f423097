"""The nodes of a run: those that are ready to take part, those that load, and those refused, with the reason."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from common.adapters.adapter import Adapter, Shapes
from common.adapters.link_codecs import Held
from common.huggingface.fingerprint_parts import parts_to_values, tell_differences
from common.huggingface.model_description import ModelDescription
from common.protocol.announcement import Announcement
from common.protocol.assignment import Returns
from common.protocol.messages import RejectionReason
from common.protocol.payload import Payload
from server.links.messenger import Messenger
from server.metrics.clients import ClientMetrics
from server.rounds.observer import RunObserver


@dataclass(frozen=True)
class RunModel:
    """What a run trains, as its operator decided before any node connected.

    Args:
        description: of the base model.
        max_rank: largest rank of a node.
        start: update at which a new run begins, of the modules that do not begin at zero.
        ranks: of modules that have one of their own, from the run's plan; a node trains such a module at no higher one.
    """

    description: ModelDescription
    max_rank: int
    start: Adapter = field(default_factory=Adapter, compare=False)
    ranks: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def begun(cls, first: Mapping[str, Any], description: ModelDescription | None = None) -> Self:
        """Return the model of a run that has begun, from the first line of its log; earlier ones lack the description.

        Raises:
            KeyError, TypeError, ValueError: the line is not one of ours.
        """
        return cls(description or ModelDescription.from_values(first["model"]), first["max_rank"]).planned([first])

    def planned(self, entries: Sequence[Mapping[str, Any]]) -> Self:
        """Return the model with the ranks of the run's plan, which the first line of its log has."""
        return replace(self, ranks=entries[0]["plan"]["ranks"]) if entries and "plan" in entries[0] else self


class Participants:
    """The connected nodes. None of them decides anything about the run: each has the run's model, or is refused.

    Args:
        messenger: to the nodes.
        model: of the run.
        targets: as [lora] targets.
        one_rank: nodes of a lower rank than the run's largest are refused, since the algorithm needs one of all.
        gradients: the kind of gradient that nodes will be asked for, so that one whose owner lets none leave is refused
            before the first round; None for none.
        class_sums: nodes will be asked for class sums, and one whose owner lets none leave is refused likewise.
        run: identity of the run, so that a node says what it has kept of it.
        name: of the run, for a node that saves what it ends with.
        observer: told of each node that has become ready, and of each look at who is there.
        begun: a round was committed, so that the modules of the run stay what they were when it began.

    `nodes` and `ids` have the announcement and Flower's number of each ready node, by name; `refused` has the name and
    the reason word of each refused one, by number. `resting` has the round in which a silent node is asked again.
    `held` has, by number, the global update that a ready node said to hold as it announced itself.
    """

    def __init__(
        self,
        messenger: Messenger,
        model: RunModel,
        targets: str | Sequence[str],
        one_rank: bool = False,
        gradients: Returns | None = None,
        class_sums: bool = False,
        run: str = "",
        name: str = "",
        observer: RunObserver | None = None,
        begun: bool = False,
    ) -> None:
        self.model, self._messenger, self._one_rank = model, messenger, one_rank
        self._observer = observer or RunObserver()
        asked: dict[str, Any] = {"targets": targets if isinstance(targets, str) else list(targets)}
        asked |= {"gradients": gradients} if gradients else {}
        asked |= {"class_sums": True} if class_sums else {}
        asked |= {"run_name": name} if name else {}
        asked |= {"begun": list(model.description.shapes)} if begun else {}
        asked |= parts_to_values(model.description.parts)
        self._question = Payload({**asked, "base": model.description.fingerprint, "run": run})
        self.nodes: dict[str, Announcement] = {}
        self.ids: dict[str, int] = {}
        self.refused: dict[int, tuple[ClientMetrics, RejectionReason]] = {}
        self.held: dict[int, Held] = {}
        self.resting: Mapping[str, int] = {}
        self._own_ranks: dict[str, int] = {}
        self._last_words: dict[str, str] = {}
        self._differences: dict[str, str] = {}

    def refresh(self, again: bool = False) -> None:
        """Take in what nodes have announced by now, and forget those that are no longer connected.

        Args:
            again: also ask nodes once more whose announcement failed.
        """
        connected = set(self._messenger.nodes())
        gone = {name for name, node in self.ids.items() if node not in connected}
        self.ids = {name: node for name, node in self.ids.items() if name not in gone}
        self.nodes = {name: self.nodes[name] for name in self.ids}
        for node in self.held.keys() - connected:
            del self.held[node]
        # A name may be free by now, for example where the same client came back under another number.
        asked = {n for n, (record, word) in self.refused.items() if word == "name" and record.name in gone}
        asked |= {n for n, (_, word) in self.refused.items() if again and word not in _FINAL}
        self.refused = {n: each for n, each in self.refused.items() if n in connected - asked}
        answers = self._messenger.announcements(self._question, {*self.ids.values(), *self.refused})
        read = [(node, _read(answer)) for node, answer in answers]
        for node, announced in sorted(read, key=lambda item: (getattr(item[1], "name", ""), item[0])):
            if node in connected or self._is_last_word(announced):
                self._take(node, announced)
        self._observer.on_look()

    @property
    def shapes(self) -> Shapes:
        """(d, k) of the run's modules."""
        return self.model.description.shapes

    def loading(self) -> list[str]:
        """Return the names of the connected nodes that have not answered yet."""
        known = {*self.ids.values(), *self.refused}
        return sorted(self._messenger.name(node) for node in self._messenger.nodes() if node not in known)

    def states(self) -> dict[str, str]:
        """Return "loading", "refused: WORD" or "ready", with its rank if that is lowered, for each node by name.

        After "refused: base" comes what differs, where both sides state it, as in "refused: base: max_length: ...". A
        refused node has this state until it connects again and is heard, since it may end by itself.
        """
        refused = {name: ": ".join(["refused", word, *self._why(name)]) for name, word in self._last_words.items()}
        ready = {
            name: f"ready, at rank {self.nodes[name].rank} of its {own}" if own > self.nodes[name].rank else "ready"
            for name, own in self._own_ranks.items()
            if name in self.nodes
        }
        resting = {name: f"silent, asked again in round {self.resting[name]}" for name in ready.keys() & self.resting}
        return dict(sorted({**refused, **dict.fromkeys(self.loading(), "loading"), **ready, **resting}.items()))

    def other_bases(self) -> list[str]:
        """Return the names of the refused nodes if all are refused for their base, and none is ready; else none.

        A refused node may have left.
        """
        words = self._last_words
        return sorted(words) if not self.nodes and {*words.values()} == {"base"} else []

    def rejected_metrics(self) -> list[ClientMetrics]:
        """Return a record of each refused node."""
        return [replace(record, status="refused", reason=word) for record, word in self.refused.values()]

    def _why(self, name: str) -> list[str]:
        return [self._differences[name]] if self._last_words[name] == "base" and name in self._differences else []

    def _is_last_word(self, announced: Announcement | RejectionReason) -> bool:
        """Return whether this is worth having of a node that has left: the reason why it cannot take part."""
        if isinstance(announced, Announcement):
            return announced.model.fingerprint != self.model.description.fingerprint
        return announced != "absent"

    def _take(self, node: int, announced: Announcement | RejectionReason) -> None:
        self._last_words.pop(self._messenger.name(node), None)
        if not isinstance(announced, Announcement):
            self.refused[node] = ClientMetrics(self._messenger.name(node), 0, 0), announced
        elif reason := self._mismatch(announced):
            self.refused[node] = ClientMetrics(announced.name, announced.rank, announced.rows), reason
            if announced.model.parts:
                self._differences[announced.name] = tell_differences(
                    self.model.description.parts, announced.model.parts
                )
        else:
            rank = min(announced.rank, self.model.max_rank)
            # The run's own description: nothing that a node sent is kept but its name and two numbers.
            kept = replace(announced, rank=rank, model=self.model.description, held=None, unfinished=())
            if announced.held:
                self.held[node] = announced.held
            self.nodes[announced.name], self.ids[announced.name] = kept, node
            self._own_ranks[announced.name] = announced.rank
            self._observer.on_node_ready(node, announced.name, announced.unfinished)
        if node in self.refused:
            record, word = self.refused[node]
            self._last_words[record.name] = word

    def _mismatch(self, announced: Announcement) -> RejectionReason | None:
        too_low = self._one_rank and announced.rank < self.model.max_rank
        return mismatch(announced, self.nodes, self.model.description) or ("rank" if too_low else None)


_FINAL = ("base", "shape", "name", "rank", "policy")
"""Reasons that another announcement of the same connection would not change."""


def _read(answer: Payload | RejectionReason) -> Announcement | RejectionReason:
    if not isinstance(answer, Payload):
        return answer
    try:
        return Announcement.from_values(answer.values)
    except (KeyError, TypeError, ValueError, OverflowError):
        return "malformed"


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that a node's own file may give it; each is a valid file name."""


def mismatch(node: Announcement, known: Mapping[str, Announcement], model: ModelDescription) -> RejectionReason | None:
    """Return the reason that bars a node from joining the known ones, in a run of this model, or None."""
    if node.name in known or not _NAME.fullmatch(node.name):
        return "name"
    if node.model.fingerprint != model.fingerprint:
        return "base"
    return None if node.model == model else "shape"
