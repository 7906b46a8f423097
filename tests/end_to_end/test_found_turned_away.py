"""Found by use: a node that is turned away says which part differs, and one without rows says so before it connects."""

import re

import pytest

from tests.common.huggingface.test_fingerprint_parts import another_base
from tests.helpers.client.nodes import PLACES
from tests.helpers.end_to_end.command import end, start
from tests.helpers.end_to_end.deployment import Project
from tests.helpers.end_to_end.fake_servers import closed_port
from tests.helpers.end_to_end.single_node_project import Clinic
from tests.helpers.end_to_end.transport import until

ODD = {
    "labels": lambda folder: {"labels": PLACES[::-1]},
    "max_length": lambda folder: {"max_length": 31},
    "tokenizer": lambda folder: {"base": another_base(folder / "other", "tokenizer.json")},
}
"""By part: what is other in the file of a node."""


@pytest.mark.slow
def test_found_A6_a_node_that_is_turned_away_ends_and_both_sides_say_which_part(tmp_path):
    project = Project(tmp_path, "train.steps=2", "train.rounds=1")
    for number in range(len(ODD) + 1):
        project.admit(f"odd-{number}")
    log = tmp_path / "server.log"
    with log.open("w") as file:
        server = project.server(file)
    files = [project.node_file(f"odd-{n}", **change(tmp_path)) for n, change in enumerate(ODD.values())]
    stays = start("client", project.node_file("odd-3", **ODD["max_length"](tmp_path), stay=True))
    try:
        for number, (part, ended) in enumerate(zip(ODD, map(end, [start("client", f) for f in files]), strict=True)):
            last = ended.err.splitlines()[-1]
            assert (ended.status, "Traceback" in ended.err) == (2, False)
            (both,) = re.findall(rf"{part}: the run has .+, the node [^;]+", last)
            until(lambda n=number, b=both: f"node odd-{n} is refused: base: {b}" in log.read_text())
        until(lambda: "node odd-3 is refused: base: max_length: the run has 32, the node 31" in log.read_text())
        assert (server.poll(), stays.poll()) == (None, None)  # Another run may follow for a node that stays.
        nodes = project.clients()  # The run goes on without them.
        assert [end(process).status for process in (server, *nodes)] == [0] * 4, log.read_text()
    finally:
        for process in (server, stays):
            process.kill()
    assert stays.communicate()[1].count("max_length: the run has 32, the node 31") == 1


@pytest.mark.parametrize("content", [b"", b"\n\n", b"text,label\n"])
def test_found_A7_a_node_without_rows_says_so_before_it_connects(content, tmp_path):
    clinic, file = Clinic(tmp_path), tmp_path / "empty.csv"
    file.write_bytes(content)
    ended = end(clinic.start(f"localhost:{closed_port()}", data="empty.csv"))
    assert (ended.status, "nothing listens" in ended.err, "Traceback" in ended.err) == (2, False, False)
    assert f"{file} contains no rows; give a file with at least one" in ended.err


def test_a_node_with_a_row_tries_to_connect(tmp_path):
    process = Clinic(tmp_path).start(f"localhost:{closed_port()}")
    assert "nothing listens" in process.stderr.readline()
    process.kill()
