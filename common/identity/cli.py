"""The commands `fedlora keys`: an operator makes a project with them, and a node's owner joins it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import printable

if TYPE_CHECKING:
    from common.identity.project_files import ProjectFiles

app = typer.Typer(
    help="Keys, certificates and the roster of a project; FEDLORA_PASSPHRASE, if set, encrypts private keys.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder of the keys, closed to others.")]
KEYS = Path("keys")


@app.command()
def init(
    project: Annotated[str, typer.Option(help="Name of the project.")],
    server: Annotated[list[str], typer.Option(help="DNS name or IP address of the server; again for each.")],
    folder: Folder = KEYS,
) -> None:
    """Make a project: its authority, the server's keys and certificate, and an empty signed roster."""
    from common.identity import operator, project_files

    operator.init(folder, project, server, _now())
    made = project_files.read_project_files(folder)
    print(f"project {project} in {folder}: server {', '.join(made.hosts)}, until {_until(made)}")
    print(f"keep {folder / 'ca.key'} and {folder / 'roster.key'} safe: anyone who has them can admit nodes")


@app.command()
def join(name: Annotated[str, typer.Option(help="Name of this node.")], folder: Folder = KEYS) -> None:
    """Make this node's keys, which stay here, and the request to send to the project's operator."""
    from common.identity import node as node_keys

    request = node_keys.join(folder, name)
    print(f"send to the project's operator: {folder / f'{name}.request'}\nfingerprint: {request.fingerprint}")


@app.command()
def admit(
    request: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="The file NAME.request that a node has sent; it may lie in --dir.")
    ],
    max_rank: Annotated[int, typer.Option(min=1, help="Largest rank the node may announce.")],
    max_weight: Annotated[int, typer.Option(min=1, help="Most examples or tokens that count for it a round.")],
    folder: Folder = KEYS,
) -> None:
    """Sign a node's request, add it to the roster, and write its invite."""
    from common.identity import node as node_keys
    from common.identity import operator

    within = folder / request
    asked = node_keys.load_request(within if within.exists() and not request.exists() else request)
    invite = operator.admit(folder, asked, max_rank, max_weight, _now())
    print(f"send to {asked.name}: {invite}, but only if its owner reads you the same fingerprint; if not, revoke it")
    print(f"fingerprint: {asked.fingerprint}")


@app.command()
def show(folder: Folder = KEYS) -> None:
    """List the project, its expiry dates, and every member of the roster."""
    from common.identity import project_files

    shown, now = project_files.read_project_files(folder), _now()
    print(f"project {shown.roster.project}, authority until {shown.authority.not_valid_after_utc:%Y-%m-%d}")
    print(f"server {printable(', '.join(shown.hosts))}, until {_until(shown)}\nroster version {shown.roster.version}")
    print(_line("name", "max rank", "max weight", "expires", "state"))
    for name, member in sorted(shown.roster.members.items()):
        expires = f"{member.expires:%Y-%m-%d}"
        print(_line(name, str(member.max_rank), str(member.max_weight), expires, member.state(now)))
    for warning in shown.warnings(now):
        print(f"warning: {warning}", file=sys.stderr)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A member of the roster.")], folder: Folder = KEYS
) -> None:
    """Bar a node for good, by the roster's next version."""
    from common.identity import operator

    print(f"{name} is revoked: roster version {operator.revoke(folder, name, _now()).version}")


@app.command()
def renew(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A member; without it, the server's certificate.")
    ] = None,
    folder: Folder = KEYS,
) -> None:
    """Make a new certificate for the same key: the server's, for which nodes change nothing, or a member's."""
    from common.identity import operator

    if name is not None:
        print(f"send to {name}: {operator.renew_node(folder, name, _now())}")
        return
    end = operator.renew_server(folder, _now()).not_valid_after_utc
    print(f"the server's certificate is valid until {end:%Y-%m-%d}; restart the server, nodes change nothing")


def _until(project: "ProjectFiles") -> str:
    return f"{project.server.not_valid_after_utc:%Y-%m-%d}"


def _line(name: str, rank: str, weight: str, expires: str, state: str) -> str:
    return f"{name:24} {rank:>8} {weight:>12} {expires:10} {state}"


def _now() -> datetime:
    return datetime.now(UTC)
