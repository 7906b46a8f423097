"""What a certificate must have to be a server's (RFC 5280, RFC 9525); certificates of `fedlora keys` have it.

OpenSSL alone would take a host from the common name, and a server that may sign other certificates.
"""

import ipaddress
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.identity.keys.certificates import subject_names

Extension = TypeVar("Extension", bound=x509.ExtensionType)


def server_fault(certificate: x509.Certificate) -> str | None:
    """Return why a certificate is not a server's, or None."""
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if not subject_names(certificate):
        return "has no subject alternative name, and a common name does not count"
    if constraints is None or constraints.ca:
        return "may sign other certificates: ca = FALSE is needed"
    if usage is None or ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        return "is not for servers: the extended key usage serverAuth is needed"
    return None


def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Return whether the subject alternative names have one of the kind of this host, a DNS name or an IP address.

    Without one, OpenSSL compares the host with the common name.
    """
    names = _extension(certificate, x509.SubjectAlternativeName) or x509.SubjectAlternativeName([])
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(names.get_values_for_type(x509.DNSName))
    return bool(names.get_values_for_type(x509.IPAddress))


def common_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the common names of the subject."""
    return tuple(str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """Return an extension; None if there is none, or the extensions cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
