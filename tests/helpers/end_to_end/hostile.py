"""Nodes that the roster admits and that misbehave, each as its name says, over real links; all in this process.

    python -m tests.hostile GO FILE...

Each FILE is a node's. None says who it is before the file GO exists, so that a run does not begin without others.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from client.network.link import Link
from client.network.responder import Responder
from client.node import read_node
from common.protocol.flower import identify
from tests.helpers.end_to_end.hostile_nodes import KINDS, Node


def _take_part(node: Node) -> None:
    answers = Responder(lambda: node.answer, node.context, node)
    Link(node.settings.server, node.credentials, node.rank, answers).run()


def main(go: Path, files: list[Path]) -> None:
    identify()
    nodes = {(name := read_node(file).name): KINDS[name](file, go) for file in files}
    if "victim" in nodes:
        nodes["victim"].impostor = nodes.get("impostor")
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(_take_part, nodes.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
