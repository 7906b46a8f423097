"""`fedlora client --check`: read a node's base and rows as a run would, without a server, and describe the base.

What is wrong raises as it would in a run; what a server would refuse by the node's own roster or policy is listed.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from client.node import LocalNode, describe_model, describe_node, load_node, load_node_base
from client.policy import matches_any
from common.errors import ConfigError, IdentityError
from common.huggingface.base_file import BaseFile, write_base_file
from common.identity.credentials import load_node_credentials
from common.protocol.announcement import Announcement
from common.settings.node import Node
from common.settings.reader import override, parse_settings
from common.settings.recipe import LoraSettings
from common.settings.tasks import shared_settings

Targets = str | tuple[str, ...]


def check_node(file: Path, describe: Path | None, targets: str) -> list[str]:
    """Check a node's file and return lines that say what it would bring to a run; with `describe`, write that file.

    Args:
        file: of the node.
        describe: path of the `base.toml` to write.
        targets: [lora] targets of the server's file, as typed.

    Raises:
        ConfigError, ModelError, DataError: a setting, the base model or a row cannot be used.
        ConfigError: a server would refuse the node; says why.
    """
    chosen, node = typed_targets(targets), load_node(file)
    announced = describe_node(node, chosen)
    if faults := list(refusals(node, announced)):
        raise ConfigError("\n".join(f"{file}: {fault}" for fault in faults))
    if describe:
        write_base_file(describe, describe_base(node.settings, chosen))
    return [*_summary(node, announced), *([f"base model described in {describe}"] if describe else [])]


def typed_targets(value: str) -> Targets:
    """Return [lora] targets of the server's file, as typed.

    Raises:
        ConfigError: they are none.
    """
    return parse_settings(LoraSettings, override({}, [f"targets={value}"]), "--targets").targets


def describe_base(node: Node, targets: Targets, begun: Collection[str] = ()) -> BaseFile:
    """Return the description of a node's base model, for the server's file; `begun` as in `find_targets`."""
    data, base = node.data, load_node_base(node)
    return BaseFile.of(
        describe_model(node, targets, begun),
        name=base.folder.name or "base",
        targets=targets,
        labels=data.labels,
        max_length=data.max_length,
        head="new" if base.replaced else None,
        **shared_settings(data),
    )


def _summary(node: LocalNode, announced: Announcement) -> Iterator[str]:
    shapes, data = announced.model.shapes, node.settings.data
    yield f"{announced.name}: {len(node.train)} rows to train on, {len(node.held)} held out; rank {announced.rank}"
    yield f"base {node.base.folder}, {len(shapes)} target modules, {len(announced.model.head)} of them a new head"
    kind = "" if data.has_classes or not data.labels else f", {data.problem_type}"
    yield f"task {data.task}{kind}, max_length {data.max_length}" + (
        f", labels {list(data.labels)}" if data.labels else ""
    )
    if cut := node.train.truncated + node.held.truncated:
        yield f"{cut} rows are longer than max_length and are cut"
    yield from node.train.found.lines()
    yield f"fingerprint {announced.model.fingerprint}"


def refusals(node: LocalNode, announced: Announcement) -> Iterator[str]:
    """Yield what the roster of the node's keys, if it has them, and its own policy would refuse."""
    policy, settings = node.settings.policy, node.settings
    if settings.keys:
        try:
            limit = load_node_credentials(Path(settings.keys), settings.name).roster.member(settings.name).max_rank
            if announced.rank > limit:
                yield f"rank = {announced.rank}, but the roster allows {limit}; lower it, or ask the operator for more"
        except IdentityError as error:
            yield str(error)
    if policy.base not in (None, announced.model.fingerprint):
        yield f"[policy] base = {policy.base!r}, but the node's own is {announced.model.fingerprint!r}; set that"
    if outside := [name for name in announced.model.shapes if policy.targets and not matches_any(name, policy.targets)]:
        yield f"[policy] targets = {list(policy.targets or ())} leaves out {outside[0]!r}, which a run trains; add it"
    if policy.min_examples is not None and policy.min_examples > len(node.train):
        yield (
            f"[policy] min_examples = {policy.min_examples}, but the node has {len(node.train)} rows to train on: "
            "it would decline every request; lower the limit, or add rows"
        )
    if policy.max_rank is not None and announced.rank > policy.max_rank:
        yield f"rank = {announced.rank} is above [policy] max_rank = {policy.max_rank}; lower it, or raise the limit"
