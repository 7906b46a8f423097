"""The node's side of admission: its owner confirms that an invite is the operator's, and puts it beside the keys."""

from collections.abc import Callable
from pathlib import Path

from common.errors import IdentityError
from common.identity import credentials, pins
from common.identity.documents import fingerprints, invite
from common.identity.documents.invite import Invite
from common.identity.keys import files, folders

Ask = Callable[[Invite], bool]
"""Asks the node's owner whether the operator reads out the fingerprint of the invite's project."""


def accept(folder: Path, path: Path, typed: str | None, ask: Ask) -> Invite:
    """Put an invite beside the keys of its node, and pin its project; return it. A renewed one needs no fingerprint.

    Args:
        folder: of the node's keys.
        path: of the invite.
        typed: the project's fingerprint, as the node's owner has it from the operator.
        ask: asks the owner, if nothing was typed and no project is confirmed.

    Raises:
        IdentityError: the invite is not for the keys in this folder, is not of the confirmed project, or bars the node;
            its fingerprint is not the one typed, or the owner does not confirm it. Nothing is written then.
    """
    folders.check_closed(folder)
    data = files.read_public(path)
    with files.prefix_errors(path):
        document, invited = invite.read_invite(data)
        invite.check_holder(document, invited, document.name, *credentials.own_keys(folder, document.name))
        confirmed = pins.is_confirmed(folder, document)
        newest = pins.newest_roster(folder, document, invited)
        credentials.check_not_revoked(document.name, newest)
    if typed is not None or not confirmed:
        _confirm(document, typed, ask)
    with folders.lock(folder):
        files.replace_file(folder / f"{document.name}.invite", data)
        pins.pin_project(folder, document.name, document.project_fingerprint)
        if newest == invited:
            pins.pin_roster(folder, document.name, document.signed_roster.encode())
    return document


def _confirm(document: Invite, typed: str | None, ask: Ask) -> None:
    own = document.project_fingerprint
    right = ask(document) if typed is None else fingerprints.is_typed(typed, own)
    if right:
        return
    given = "the operator's is another" if typed is None else f"{typed!r} is another"
    raise IdentityError(
        f"the invite is of project {document.project} with fingerprint {own}, and {given}: if it is the project's, not "
        "the request's, somebody else made this invite; ask the operator for the right one"
    )
