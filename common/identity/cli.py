"""The commands `fedlora keys`: an operator makes a project with them, and a node's owner joins it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import printable

if TYPE_CHECKING:
    from common.identity.documents.invite import Invite
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
    print(_fingerprint_of(made))
    print(f"keep {folder / 'ca.key'} and {folder / 'roster.key'} safe: anyone who has them can admit nodes")


@app.command()
def join(name: Annotated[str, typer.Option(help="Name of this node.")], folder: Folder = KEYS) -> None:
    """Make this node's keys, which stay here, and the request to send to the project's operator."""
    from common.identity import node as node_keys

    request = node_keys.join(folder, name)
    print(f"send to the project's operator: {folder / f'{name}.request'}\nrequest's fingerprint: {request.fingerprint}")


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
    from common.identity import operator, project_files
    from common.identity.documents.fingerprints import as_word

    asked = node_keys.load_request(_found(request, folder))
    invite = operator.admit(folder, asked, max_rank, max_weight, _now())
    project = project_files.read_project_files(folder)
    print(f"send to {asked.name}: {invite}, but only if its owner reads you this fingerprint; if not, revoke it")
    print(f"request's fingerprint: {asked.fingerprint}")
    print(f"{_fingerprint_of(project)}\nread that to {asked.name}'s owner, who confirms it with:")
    print(f"fedlora keys accept {invite.name} --fingerprint {as_word(project.fingerprint)}")


@app.command()
def accept(
    invite: Annotated[
        Path, typer.Argument(metavar="INVITE", help="The file NAME.invite from the operator; it may lie in --dir.")
    ],
    fingerprint: Annotated[
        str | None, typer.Option(help="The project's fingerprint as the operator reads it to you; asked for without.")
    ] = None,
    folder: Folder = KEYS,
) -> None:
    """Confirm that an invite is the operator's, and put it beside this node's keys; no other project counts then."""
    from common.identity import acceptance

    accepted = acceptance.accept(folder, _found(invite, folder), fingerprint, _ask)
    print(
        f"{folder / f'{accepted.name}.invite'} is confirmed: project {accepted.project}, {accepted.project_fingerprint}"
    )


@app.command()
def show(folder: Folder = KEYS) -> None:
    """List the project, its expiry dates, and every member of the roster."""
    from common.identity import project_files

    shown, now = project_files.read_project_files(folder), _now()
    print(f"project {shown.roster.project}, authority until {shown.authority.not_valid_after_utc:%Y-%m-%d}")
    print(_fingerprint_of(shown))
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


def _found(file: Path, folder: Path) -> Path:
    """Return the path of a file that was named alone and lies in the folder of keys."""
    within = folder / file
    return within if within.exists() and not file.exists() else file


def _ask(invite: "Invite") -> bool:
    from common.errors import IdentityError

    if sys.stdin is None or not sys.stdin.isatty():
        raise IdentityError(
            "nobody can be asked without a terminal; give --fingerprint as the operator reads it to you"
        )
    print(f"{invite.name} is invited by project {invite.project}, fingerprint {invite.project_fingerprint}")
    return typer.confirm("Does the project's operator read you the same, by telephone for example?")


def _fingerprint_of(project: "ProjectFiles") -> str:
    return f"fingerprint of project {project.roster.project}, of its authority and roster key: {project.fingerprint}"


def _until(project: "ProjectFiles") -> str:
    return f"{project.server.not_valid_after_utc:%Y-%m-%d}"


def _line(name: str, rank: str, weight: str, expires: str, state: str) -> str:
    return f"{name:24} {rank:>8} {weight:>12} {expires:10} {state}"


def _now() -> datetime:
    return datetime.now(UTC)
