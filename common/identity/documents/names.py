"""Names as a person types them, checked once: of a node, of a project, of the server's hosts."""

import ipaddress
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

from pydantic import AfterValidator

from common.errors import IdentityError

NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The same pattern as `common.settings.types.Name`."""
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,52}")
"""Shorter, because X.509 allows 64 characters for `fedlora CA PROJECT`."""
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RESERVED = ("ca", "receipt", "roster", "server")
"""A node of this name would share a file with the project if both use one folder."""


def node_name(name: str) -> str:
    """Return the name if it is valid for a node and its files.

    Raises:
        IdentityError: it is not.
    """
    if not NODE.fullmatch(name):
        raise IdentityError(
            f"node name {name!r}: use 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    if name in _RESERVED:
        raise IdentityError(f"node name {name!r} is reserved for the project's own files; choose another name")
    return name


def project_name(name: str) -> str:
    """Return the name if it is valid for a project.

    Raises:
        IdentityError: it is not.
    """
    if not _PROJECT.fullmatch(name):
        raise IdentityError(
            f"project name {name!r}: use 1 to 53 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    return name


def host_names(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the server's DNS names and IP addresses in one spelling, each once.

    Raises:
        IdentityError: there is none, or one is neither a DNS name nor an IP address.
    """
    names = tuple(dict.fromkeys(_host(host) for host in hosts))
    if not names:
        raise IdentityError("the server has no name; give --server with its DNS name or IP address")
    return names


def _host(host: str) -> str:
    if "%" not in host:  # an address with a zone is valid on one machine only
        with suppress(ValueError):
            return str(ipaddress.ip_address(host))
    name = host.lower()
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise IdentityError(
            f"server name {host!r} is neither a DNS name nor an IP address; write it as fed.example.org or 10.0.0.5, "
            "without scheme, port or wildcard, a name of other letters in its xn-- form"
        )
    return name


NodeName = Annotated[str, AfterValidator(node_name)]
ProjectName = Annotated[str, AfterValidator(project_name)]
HostNames = Annotated[tuple[str, ...], AfterValidator(host_names)]
