"""Limits of the roster that the run's own settings would break in every round, found before the first."""

from common.errors import ConfigError
from common.identity.documents.roster import Roster
from common.settings.server import ServerFile
from server.algorithms import weights_of


def check_limits(settings: ServerFile, roster: Roster) -> list[str]:
    """Return a warning for nodes whose every reply would be refused, since it reports more rows than the roster allows.

    Raises:
        ConfigError: so many that no round could reach the quorum.
    """
    train = settings.train
    rows = train.steps * train.batch * train.accumulate
    # Tokens are known only to the nodes; each row has at least one.
    members = [member for member in roster.members.values() if not member.revoked]
    low = [member for member in members if member.max_weight < rows]
    if not low:
        return []
    counted = "tokens" if weights_of(settings.server) == "tokens" else "examples"
    names = ", ".join(f"{member.name} ({member.max_weight})" for member in low)
    text = (
        f"[train] steps = {train.steps} times batch = {train.batch} times accumulate = {train.accumulate} is {rows} "
        f"rows a round, and the roster allows fewer {counted} to {names}: their updates would be refused; lower one "
        f"of the three, or admit them with --max-weight {rows} or more"
    )
    if len(members) - len(low) < settings.quorum:
        raise ConfigError(f"{text}; without them no round has quorum = {settings.quorum} updates")
    return [text]
