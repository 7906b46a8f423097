"""Flower's own engine on this machine: a SuperLink in simulation mode, with its own home, port and environment."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


@dataclass(frozen=True)
class FlowerEngine:
    """A SuperLink that waits for runs.

    Args:
        process: the SuperLink; the processes it starts are its descendants.
        environment: variables with which `flwr` finds it.
    """

    process: psutil.Process
    environment: dict[str, str]

    def run(self, folder: Path, clients: int) -> str:
        """Return all that `flwr run` prints until the run in this folder has ended; each client has its own CPU."""
        command = [_script("flwr"), "run", str(ROOT), "--stream", "--run-config", f'run="{folder.resolve()}"']
        sizes = f"num-supernodes={clients} client-resources-num-cpus=1"
        done = subprocess.run(
            [*command, "--federation-config", sizes],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=True,
        )
        return done.stdout


@contextmanager
def flower_engine(home: Path, nodes: Path) -> Iterator[FlowerEngine]:
    """Run an engine while the block runs; its nodes take their files from `nodes`. Its child processes end with it."""
    port = _free_port()
    home.mkdir(parents=True)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "engine"\n[superlink.engine]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FEDLORA_NODES": str(nodes.resolve()),
        "FLWR_HOME": str(home.resolve()),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [_script("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "superlink.log").open("w") as log:
        process = psutil.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait(process, port, home / "superlink.log")
        yield FlowerEngine(process, environment)
    finally:
        _end([process, *process.children(recursive=True)])


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait(process: psutil.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while process.is_running() and process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"Flower's SuperLink did not start:\n{log.read_text()}")


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    for process in psutil.wait_procs(processes, timeout=10)[1]:
        process.kill()
