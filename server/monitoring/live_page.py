"""`fedlora status --page`: a run's page with the live state, on loopback.

The folder of a run is closed to other users of the machine, and so is this: its path begins with a random token. The
page's policy lets it load nothing but what is served here, and run one script, by its hash.
"""

from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe

from markupsafe import Markup

from common.plain_files import read_plain
from common.report.templates import template
from common.signals import STOPS, exit_on_signal
from server.monitoring.live_state import REPORT, live_state
from server.monitoring.loopback_http import Answer, LoopbackServer
from server.monitoring.status_view import HEADINGS
from server.settings import read_server

_HERE = Path(__file__).parent
_MOST = 64 << 20
"""Most bytes of a report."""
_SCRIPT = (_HERE / "live.js").read_text(encoding="utf-8")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
    f"script-src 'sha256-{b64encode(sha256(_SCRIPT.encode()).digest()).decode()}'"
)
"""Figures have their colours in style attributes, hence 'unsafe-inline' for styles."""


def serve_page(file: Path, port: int) -> None:
    """Print the address of the page of the server with this file, and serve it until Ctrl-C.

    Args:
        file: the server's own file.
        port: on 127.0.0.1; 0 takes a free one.

    Raises:
        ConfigError: the file is wrong.
        TransportError: the port cannot be listened at.
    """
    settings, place = read_server(file), f"/{token_urlsafe(16)}/"
    answers = answers_of(Path(settings.folder), f"{settings.project}: {settings.run}")
    found = {place + name: answer for name, answer in answers.items()}
    with (
        LoopbackServer(port, found, POLICY) as server,
        exit_on_signal(*STOPS, status=0, message="the page is no longer served"),
    ):
        print(f"http://127.0.0.1:{server.server_port}{place}", flush=True)
        server.serve_forever()


def answers_of(folder: Path, name: str) -> Mapping[str, Answer]:
    """Return what is served: by name, the page (of an empty name), the live state and the report.

    Args:
        folder: of the run.
        name: heading of the page.
    """
    script = Markup(_SCRIPT)  # noqa: S704 - our own file
    page = template(_HERE, "live.html.j2").render(name=name, headings=HEADINGS, script=script).encode()
    return {
        "": Answer("text/html", lambda: page),
        "state.json": Answer("application/json", partial(live_state, folder)),
        REPORT: Answer("text/html", lambda: read_plain(folder / REPORT, _MOST)),
    }
