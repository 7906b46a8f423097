"""Whether a server's rounds follow one another, by what it has told the node before.

Within a connection, round L is followed by round L + 1, which starts from the adapter that L ended with; a new
connection may begin at a later round, since the node may have been away. A run goes back only by a statement that the
server signed, to an adapter that this node was told of.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from client.network.told_rounds import ToldRound, ToldRounds
from common.protocol.round_notice import RoundNotice

IsReturn = Callable[[str, int, str, str], bool]
"""Returns whether the server has signed that a run went back to a round and its adapter; the last is the signature."""
Rounds = Mapping[int, ToldRound]

log = logging.getLogger(__name__)


class RoundOrder:
    """Follows the notices of a server, and judges its requests by them.

    Args:
        told: what the node was told, which is added to.
        is_return: checks a signature.
    """

    def __init__(self, told: ToldRounds, is_return: IsReturn) -> None:
        self._told, self._is_return = told, is_return
        self.on_connect()

    def on_connect(self) -> None:
        """Begin a connection: its first notice may be of another run, or of a later round."""
        self._first, self._run = True, ""

    def follow(self, notice: RoundNotice) -> str | None:
        """Follow a notice, or return what does not follow from what the node was told before."""
        first, self._first = self._first, False
        if fault := self._told.fault(notice) or self._follow(notice, first):
            return f"{fault}; {self._remedy}"
        self._run = notice.run
        return None

    def request_fault(self, kind: str, values: Mapping[str, Any]) -> str | None:
        """Return why the node does not obey a request, or None.

        Args:
            kind: `evaluate` for a state that may not be committed yet; any other is a request to train.
            values: those of the request.
        """
        run, number, parent = (values.get(key) for key in ("run", "round", "parent"))
        if not isinstance(run, str) or type(number) is not int:
            return "the request names no run and round; use the same release on both sides"
        fault = self._other_run(run) or _request_fault(kind, number, parent, self._told.of(run))
        return f"{fault}; {self._remedy}" if fault else None

    def ending_fault(self, run: str, number: int, adapter: str) -> str | None:
        """Return why a run did not end with this adapter after this round, by what the node was told, or None."""
        told = self._told.of(run)
        if number in told and told[number].adapter != adapter:
            return f"the run ended with adapter {adapter:.12}, but round {number} with {told[number].adapter:.12}"
        return None

    @property
    def _remedy(self) -> str:
        return (
            "this node does nothing for rounds that do not follow: ask the server's operator. A run goes back by "
            f"`fedlora server --from-round`, or begins anew under another name; without {self._told.path} this node "
            "follows whatever it is told next"
        )

    def _other_run(self, run: str) -> str | None:
        if self._run in ("", run):
            return None
        return f"run {_short(run)} was requested or told, in a connection to run {_short(self._run)}"

    def _follow(self, notice: RoundNotice, first: bool) -> str | None:
        told = self._told.of(notice.run)
        if fault := self._other_run(notice.run) or _notice_fault(notice, told, first):
            back = self._round_returned_to(notice, told)
            if back is None:
                return fault + self._unsigned(notice)
            kept = {number: each for number, each in told.items() if number <= back}
            if fault := self._other_run(notice.run) or _notice_fault(notice, kept, first):
                return fault
            log.warning("the run goes back from round %s to round %s, as its server signed", max(told), back)
            self._told.add(notice.run, back, kept[back])
            told = kept
        self._keep(notice, told)
        return None

    def _keep(self, notice: RoundNotice, told: Rounds) -> None:
        after, each = max(told, default=None), ToldRound(notice.parent, notice.adapter)
        if after is not None and notice.round > after + 1:
            what = "the node was told of round %s last, and now of round %s: it was away, or the server jumps"
            log.warning(what, after, notice.round)
        if not told and self._told.runs:
            log.info("another run: %s, of which round %s is told first", _short(notice.run), notice.round)
        if after != notice.round:
            self._told.add(notice.run, notice.round, each)

    def _round_returned_to(self, notice: RoundNotice, told: Rounds) -> int | None:
        """Return the latest told round to which the server signed that the run went back, or None."""
        if not notice.returned:
            return None
        signed = (
            number
            for number, each in sorted(told.items(), reverse=True)
            if number <= notice.round and self._is_return(notice.run, number, each.adapter, notice.returned)
        )
        return next(signed, None)

    def _unsigned(self, notice: RoundNotice) -> str:
        if not notice.returned:
            return ""
        if self._is_return(notice.run, notice.round, notice.adapter, notice.returned):
            return ". The server signed that the run went back, but to an adapter that this node was not told of"
        return ". No return to a round that this node was told of is signed by the server's key"


def _notice_fault(notice: RoundNotice, told: Rounds, first: bool) -> str | None:
    number, last = notice.round, max(told, default=None)
    if last is None:
        return None
    if number < last:
        return f"the server tells of round {number} after round {last}"
    if number == last and told[last] != (notice.parent, notice.adapter):
        now, then = f"{notice.parent:.12} to {notice.adapter:.12}", "{:.12} to {:.12}".format(*told[last])
        return f"round {number} led from adapter {now}, but by what was told before from {then}"
    if number == last + 1:
        return _parent_fault(number, notice.parent, told[last])
    if number > last and not first:
        return f"the server tells of round {number} right after round {last}"
    return None


def _request_fault(kind: str, number: int, parent: object, told: Rounds) -> str | None:
    last = max(told, default=-1)
    if kind == "evaluate":
        if number == last + 1 or (number == last and parent == told[last].adapter):
            return None
        return f"round {number} is to be measured, but the last round told is {last if told else 'none'}"
    if not told:
        return f"round {number} is requested, but the server has told of no round of this run"
    if number != last + 1:
        return f"round {number} is requested, but after round {last} comes round {last + 1}"
    return _parent_fault(number, parent, told[last])


def _parent_fault(number: int, parent: object, before: ToldRound) -> str | None:
    if parent == before.adapter:
        return None
    what = f"round {number} starts from adapter {_short(parent)}"
    return f"{what}, but by the log round {number - 1} ended with {before.adapter:.12}"


def _short(value: object) -> str:
    """Return the beginning of a value from the server; nothing in it acts on a terminal."""
    return ascii(str(value)[:12]).strip("'")
