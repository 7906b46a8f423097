"""The server of a NumpyProject in a process of its own that a patch kills, or whose disk it fills, at one point."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from tests.helpers.end_to_end.command import ROOT, Ended, end
from tests.helpers.end_to_end.numpy_project import NumpyProject
from tests.helpers.server.exchange import NumpyNode

KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
FULL = "raise OSError(28, 'No space left on device')"

_PATCH = """
import sys, fedlora
from {module} import {owner} as owner
real = owner.{method}
def patched(*args, **kwargs):
    if {condition}:
        {act}
    return real(*args, **kwargs)
owner.{method} = patched
"""


def at_publication(number: int, act: str) -> str:
    """Return a patch that acts once round `number` is in the log, before its adapter is published."""
    where = {"module": "server.storage.publication", "owner": "AdapterFolder", "method": "publish"}
    return _PATCH.format(**where, condition=f"args[3]['round'] == {number}", act=act)


def at_tidying(act: str) -> str:
    """Return a patch that acts once the run has gone back, before the later rounds' files are removed."""
    where = {"module": "server.storage", "owner": "checkpoints", "method": "tidy_checkpoints"}
    return _PATCH.format(**where, condition="b'return_to' in (args[0] / 'log.jsonl').read_bytes()", act=act)


def no_file_beyond(size: int) -> str:
    """Return a patch under which no file may grow beyond `size` bytes, as on a full disk."""
    return f"import sys, resource, fedlora\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"


@contextmanager
def patched_server(project: NumpyProject, patch: str, *options: object) -> Iterator[subprocess.Popen[str]]:
    """Yield the process, whose log is its standard error."""
    words = ["fedlora", "server", str(project.file), *map(str, options)]
    command = [sys.executable, "-c", f"{patch}\nsys.argv = {words}\nfedlora.main()"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_patched(project: NumpyProject, nodes: Iterable[NumpyNode], patch: str, *options: object) -> Ended:
    """Run it with these nodes until it ends."""
    nodes = list(nodes)
    project.admit_new(node.name for node in nodes)
    with patched_server(project, patch, *options) as server, ExitStack() as running:
        for each in nodes:
            running.callback(project.node(each).stop)
        return end(server)
