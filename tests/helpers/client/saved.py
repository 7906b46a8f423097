"""A node's own folder of a simulated run, as if the node had taken part in it."""

from client.finished.run import load_run
from client.node import load_node_base
from client.results.folder import NodeFolder
from client.results.saved_adapter import SavedUpdate
from client.results.saving import render_update
from client.settings import read_node
from common.adapters.codec import encode_adapter
from common.huggingface.fingerprint_parts import BASE, folder_parts


def node_folder(runs, run, identity="a" * 64, name="first"):
    """Save the update of a run as its first client does, under `runs`, and return the folder."""
    node, adapter = read_node(min((run / "nodes").glob("*.toml"))), load_run(run).adapter
    base = load_node_base(node)
    stated = folder_parts(base.folder)[BASE]
    folder = NodeFolder.begin(runs, node, name, identity)
    folder.save(SavedUpdate(3, encode_adapter(adapter), base_hash=stated), render_update(base, adapter, stated))
    folder.record(kind="query", rows=17)
    folder.record(kind="evaluate", round=0, loss=2.0, count=2)
    folder.record(kind="evaluate", round=3, loss=1.0, count=2)
    return folder.path
