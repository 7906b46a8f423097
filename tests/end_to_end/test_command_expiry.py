"""`fedlora keys show`, `server` and `client` warn of certificates that end soon, with the command that renews them."""

import re
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.huggingface.base_file import BaseFile, write_base_file
from common.identity import node as node_keys
from common.identity import operator as project
from tests.helpers.common.identity_parties import accept, days_ago
from tests.helpers.end_to_end.command import call, end, start
from tests.helpers.end_to_end.fake_servers import closed_port
from tests.helpers.server.exchange import described

SERVER = (
    'project = "cardio"\nrun = "first"\nrounds = 1\nlisten = "localhost:{port}"\nkeys = "the keys"\n'
    '[base]\nfile = "base.toml"\n'
)
CLIENT = 'name = "clinic"\nrank = 8\nbase = "b"\ndata = "d"\nkeys = "node"\nserver = "localhost:{port}"\n'


@dataclass
class Place:
    """A server whose certificate has so many days left, and a node whose has as many."""

    folder: Path
    left: int

    def __post_init__(self) -> None:
        self.keys = self.folder / "the keys"
        project.init(self.keys, "cardio", ["localhost"], days_ago(365))
        project.renew_server(self.keys, days_ago(90 - self.left))
        request = node_keys.join(self.folder / "node", "clinic")
        project.admit(self.keys, request, 8, 5000, days_ago(365 - self.left))
        self.send_invite()
        rest = {"name": "numbers", "targets": "query-value", "max_length": 8}
        write_base_file(self.folder / "base.toml", BaseFile.of(described(), **rest))
        for name in "bd":  # the node's base and rows, which it does not get to read
            (self.folder / name).write_text("of no use")
        for name, text in {"server": SERVER, "client": CLIENT}.items():
            (self.folder / f"{name}.toml").write_text(text.format(port=closed_port()))

    def send_invite(self) -> None:
        accept(self.folder / "node", self.keys / "clinic.invite")

    def said(self, verb: str) -> str:
        """Return the command's output until it waits for others, or all of it."""
        if verb == "keys":
            return call("keys", "show", "--dir", self.keys).err
        process, said = start(verb, self.folder / f"{verb}.toml"), ""
        while not re.search("listening|nothing listens", said):
            said += (line := process.stderr.readline())
            assert line, said
        process.send_signal(signal.SIGTERM)
        return said + end(process).err


@pytest.mark.parametrize("verb", ["keys", "server", "client"])
@pytest.mark.parametrize(("left", "words"), [(28, "expires in 2[78] days"), (6, "urgent: .* expires in [56] days")])
def test_what_ends_soon_is_told_and_the_command_that_is_named_mends_it(tmp_path, verb, left, words):
    place = Place(tmp_path, left)
    warned = [line for line in place.said(verb).splitlines() if re.search(words, line)]
    named = [re.search("fedlora keys renew[^,;]*", line).group() for line in warned]
    assert len(named) == (1 if verb == "client" else 2)
    for command in named:
        where = ["--dir", place.keys] if verb == "client" else []  # its owner does not know where the operator's are
        assert call(*shlex.split(command)[1:], *where).status == 0
    place.send_invite()
    assert "expires" not in place.said(verb)


def test_control_nothing_is_told_of_what_does_not_end_soon(tmp_path):
    place = Place(tmp_path, 32)
    assert not any("expires" in place.said(verb) for verb in ("keys", "server", "client"))
