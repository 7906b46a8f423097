"""Found by attacks: who holds connections open, with a certificate or without, keeps no node out, and is named."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from common.identity.credentials import load_node_credentials
from tests.helpers.end_to_end.command import ROOT, end
from tests.helpers.end_to_end.crowd import HELLO, Crowd, calling, crowd, greeted, plain, secured
from tests.helpers.end_to_end.numpy_project import HONEST, NumpyProject
from tests.helpers.end_to_end.strangers import tls
from tests.helpers.end_to_end.transport import until
from tests.helpers.simulations.runs import hashes

FILES, CROWD = 128, 110
"""Files that the server may open, and connections of the attack: more than three quarters of them."""
FEW_FILES = f"import sys, resource, fedlora\nresource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))\n"
NO_DOOR = "from server.transport.door.places import Door\nDoor.look = lambda self, port: None\n"


def own(project):
    return tls(load_node_credentials(project.folder / "nodes", "eve"), tmp_path=project.folder)


ATTACKS: dict[str, Callable] = {
    "silent": lambda project: partial(plain, project.port),
    "half-handshake": lambda project: partial(plain, project.port, b"\x16\x03\x01"),
    "no-certificate": lambda project: partial(secured, project.port, tls()),
    "hello-alone": lambda project: partial(greeted, project.port, tls()),
    "idle": lambda project: partial(secured, project.port, own(project)),
    "call-without-a-frame": lambda project: partial(calling, project.port, own(project)),
    "half-a-frame": lambda project: partial(calling, project.port, own(project), HELLO[:9]),
    "one-call": lambda project: partial(calling, project.port, own(project), HELLO, True),
    "open-call": lambda project: partial(calling, project.port, own(project), HELLO, False),
}
BY_NAME, BY_NOBODY = {"one-call", "open-call"}, {"no-certificate"}
"""Whom the log names by the node's name, and whom it does not: TLS itself hangs up on those. The others by address."""


@contextmanager
def serving(project: NumpyProject, patch: str) -> Iterator[subprocess.Popen[str]]:
    words = ["fedlora", "server", str(project.file)]
    command = [sys.executable, "-c", f"{patch}\nsys.argv = {words}\nfedlora.main()"]
    with project.log_file.open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def besieged(folder, attack: str, patch: str = "") -> Iterator[tuple[NumpyProject, subprocess.Popen[str], Crowd]]:
    """Yield a server to which two nodes are connected, and then a crowd."""
    project = NumpyProject(folder)
    project.admit_new([*(node.name for node in HONEST), "eve"])
    with serving(project, FEW_FILES + patch) as server, ExitStack() as running:
        for node in HONEST[:2]:
            running.callback(project.node(node).stop)
        until(lambda: {f"node {node.name} is connected" for node in HONEST[:2]} <= set(project.log))
        yield project, server, running.enter_context(crowd(ATTACKS[attack](project), CROWD))


SLOW = {"hello-alone", "call-without-a-frame", "half-a-frame", "one-call", "open-call"}


def some_slow(attacks):
    return [pytest.param(each, marks=[pytest.mark.slow] if each in SLOW else []) for each in attacks]


@pytest.mark.parametrize("attack", some_slow(ATTACKS))
def test_found_S10_a_node_gets_in_beside_a_crowd_and_the_log_names_it(attack, undisturbed, tmp_path):
    with besieged(tmp_path, attack) as (project, server, _):
        last = project.node(HONEST[2])
        ended = end(server)
        last.stop()
    assert ended.status == 0, project.log[-20:]
    assert hashes(project.run) == hashes(undisturbed.run)
    who = "node eve holds" if attack in BY_NAME else "127.0.0.1 holds"
    named = [line for line in project.log if line.startswith(who) and " connections: " in line]
    assert named or attack in BY_NOBODY, project.log
    assert len(project.log) < 70
    assert "Traceback" not in project.log_file.read_text()


@pytest.mark.parametrize("attack", some_slow(["idle", "open-call"]))
def test_found_S10_without_the_door_the_same_crowd_keeps_the_node_out(attack, tmp_path):
    with besieged(tmp_path, attack, NO_DOOR) as (project, _, _):
        last = project.node(HONEST[2])
        time.sleep(3.0)
        assert "node cyd is connected" not in project.log
        assert not any(" connections: " in line for line in project.log)
        last.link.stop()
