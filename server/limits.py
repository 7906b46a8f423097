"""What the roster and a run's settings say of each other before the first round: too few nodes, too low limits."""

from datetime import UTC, datetime

from common.errors import ConfigError
from common.identity.documents.roster import Roster
from common.settings.server import ServerFile
from server.algorithms import algorithm_named, weights_of


def check_limits(settings: ServerFile, roster: Roster) -> list[str]:
    """Return warnings: of a roster below the quorum, and of nodes whose every reply would report too many rows.

    Raises:
        ConfigError: the limits are so low that no round could reach the quorum.
    """
    members, train, rule = roster.current(datetime.now(UTC)), settings.train, algorithm_named(settings.server.algorithm)
    few = f"quorum = {settings.quorum}, but the roster has {len(members)} nodes; admit more nodes, or lower quorum"
    warnings = [few] if len(members) < settings.quorum else []
    rows = train.steps * train.batch * train.accumulate
    if rule.asks_gradients == "compressed-gradient":  # A node is asked for no more rows than its limit.
        rows = train.steps
    # Tokens are known only to the nodes; each row has at least one.
    low = [member for member in members if member.max_weight < rows]
    if not low:
        return warnings
    counted = "tokens" if weights_of(settings.server) == "tokens" else "examples"
    names = ", ".join(f"{member.name} ({member.max_weight})" for member in low)
    product = f"steps = {train.steps}"
    if rows != train.steps:
        product += f" times batch = {train.batch} times accumulate = {train.accumulate}"
    text = (
        f"[train] {product} is {rows} rows a round, and the roster allows fewer {counted} to {names}: their updates "
        f"would be refused; lower that, or admit them with --max-weight {rows} or more"
    )
    if len(members) - len(low) < settings.quorum <= len(members):
        raise ConfigError(f"{text}; without them no round has quorum = {settings.quorum} updates")
    return [*warnings, text]
