"""`fedlora serve`: from a run's folder to a listening server, and its end."""

import ipaddress
import socket
from collections.abc import Sequence
from errno import EADDRINUSE
from pathlib import Path

import uvicorn

from client.finished.run import load_run
from client.serving.http.app import make_app, make_service
from client.serving.limits import Limits
from client.serving.models import Models
from common.errors import ConfigError, printable
from common.settings.reader import user_path
from common.signals import STOPS, exit_on_signal

_LAST_SECONDS = 5
"""Time that requests have to end when the server is stopped."""


def serve(run: Path, adapters: Sequence[str], host: str, port: int, key: str | None) -> None:
    """Serve a run, and adapters over its base, until a signal ends the process with status 0.

    Args:
        run: folder of the run.
        adapters: each NAME=DIR.
        host: address to listen at.
        port: 0 lets the system choose one.
        key: that clients must send; needed beyond loopback.

    Raises:
        ConfigError: address, key or an adapter's name is wrong.
        FedloraError: the run or an adapter cannot be served.
    """
    _check_key(host, key)
    named = [_name_and_folder(each) for each in adapters]
    with exit_on_signal(*STOPS, message="stopped", status=0), _bind(host, port) as listener:
        limits, trained = Limits(), load_run(run)
        models = Models(trained, run.resolve().name)
        for name, folder in named:
            models.add(name, folder)
        app = make_app(make_service(trained, models, limits), key, limits)
        listener.listen(limits.connections)
        _tell(listener, models)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            limit_concurrency=limits.connections,
            timeout_graceful_shutdown=_LAST_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _check_key(host: str, key: str | None) -> None:
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
        raise ConfigError("--api-key is empty or has blanks or other than ASCII characters; give another key")
    if key is None and not _is_loopback(host):
        raise ConfigError(
            f"--host {host} is not loopback, and there is no API key; set FEDLORA_API_KEY, or use --host 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_and_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise ConfigError(f"--adapter {text}: give NAME=DIR, as in --adapter support=adapters/support")
    return name, user_path(folder)


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket at this address, before the base is read, which takes longer."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--host {host} is no address of this machine ({error.strerror}); give one") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        remedy = "give another --port" if error.errno == EADDRINUSE else "give another --host or --port"
        raise ConfigError(f"cannot listen at {host}, --port {port}: {error.strerror}; {remedy}") from None
    return listener


def _tell(listener: socket.socket, models: Models) -> None:
    host, port = listener.getsockname()[:2]
    print(f"serving at http://{f'[{host}]' if ':' in host else host}:{port}/v1", flush=True)
    print(printable(f"models: {', '.join(each.name for each in models.all)}"), flush=True)
