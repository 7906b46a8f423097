"""What a model card tells of a run that a node has saved: what the node knows, and no name."""

from client.exporting.card_facts import Facts, Measure
from client.results.folder import NodeFolder


def read_node_facts(folder: NodeFolder) -> Facts:
    """Read the facts of a run in a node's folder; the rows are the node's own.

    Raises:
        JournalError: the saved update cannot be used.
    """
    history, update = folder.history(), folder.update
    hashes = {"SHA-256 of the base": update.base_hash, "hash of the update": update.digest} if update else {}
    losses = {line["round"]: line["loss"] for line in history if line.get("kind") == "evaluate" and "loss" in line}
    name = "loss on held-out rows of the node that exported it"
    return Facts(
        settings={},
        rounds=update.round if update else None,
        nodes=0,
        rows=folder.rows or 0,
        ranks=(folder.node.rank,),
        measures=(Measure(name, losses[min(losses)], losses[max(losses)]),) if losses else (),
        hashes={name: value for name, value in hashes.items() if value},
    )
