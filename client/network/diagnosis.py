"""Explanations, each with its remedy, of why one end of a connection rejects the other."""

from datetime import UTC, datetime
from ssl import SSLCertVerificationError

from cryptography import x509

from common.adapters.link_codecs import CODECS, SHARES_A
from common.adapters.rounding import WIRES
from common.errors import IdentityError
from common.identity.keys import certificates
from common.identity.keys.server_certificates import names_host, server_fault
from common.protocol.channel import TlsMaterial

_NOT_YET, _EXPIRED = 9, 10
_OTHER_AUTHORITY = {18, 19, 20, 21, 24}
_OTHER_NAME = {62, 64}
"""Numbers of OpenSSL for the results of an X.509 verification."""

_REFUSALS = {
    "unknown": "this node is not on the server's roster; ask the operator for `fedlora keys admit`",
    "revoked": "this node was revoked; ask the operator why",
    "expired": "this node's certificate has expired; ask the operator for a new invite",
    "rank": "this node's `rank` is above what the roster allows; lower it, or ask the operator for a higher limit",
    "refused": "this node is no longer authorized; ask the operator why",
    "replaced": "another process connected with this node's key; run one at a time",
    "method": "it does not know a call of this node; use the same release of fedlora on both sides",
    "malformed": "it cannot read this node's messages; use the same release of fedlora on both sides",
}
"""The meaning of a server's rejection word for the node."""


def explain_server_certificate(error: SSLCertVerificationError, server: str) -> str:
    """Explain why this node does not trust the server."""
    what = f"the certificate of {server}"
    if error.verify_code == _NOT_YET:
        return f"{what} is not valid yet {_clock()}: set the clock right"
    if error.verify_code == _EXPIRED:
        return f"{what} has expired {_clock()}: if the clock is right, its operator runs `fedlora keys renew`"
    if error.verify_code in _OTHER_NAME:
        return f"{what} is for other names (its common name does not count); write `server` as the invite names it"
    if error.verify_code in _OTHER_AUTHORITY:
        return (
            f"{what} is not from this project's authority: it is another server, or something in between opens TLS; "
            "check `server`, or ask the operator for a new invite"
        )
    return f"{what} cannot be trusted: {error.verify_message}"


def explain_shown_certificate(der: bytes, server: str, host: str) -> str | None:
    """Explain why a certificate that OpenSSL has verified is still not this server's; None if it is.

    Args:
        der: the certificate that the server has shown.
        server: host and port.
        host: the host alone.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        return f"the certificate of {server} cannot be read"
    fault = server_fault(certificate)
    if fault is None and not names_host(certificate, host):
        fault = f"has {host} only as its common name, which does not count"
    remedy = "its operator runs `fedlora keys renew` and starts the server again"
    return f"the certificate of {server} {fault}; {remedy}" if fault else None


def explain_node_certificate(tls: TlsMaterial) -> str | None:
    """Explain why no server will ever trust this node; None if its certificate is its project's."""
    try:
        own, authority = (
            certificates.from_pem(tls.certificate_pem),
            certificates.from_pem(tls.ca_pem),
        )
    except IdentityError as error:
        return f"this node's certificate {error}"
    if not certificates.is_issued_by(own, authority):
        return "this node's certificate is not from this project's authority; ask the operator for a new invite"
    return None


def explain_node_dates(tls: TlsMaterial) -> str | None:
    """Explain why a server does not trust this node at this time; None if its certificate is valid now.

    gRPC's server gives no reason: it hangs up.
    """
    own, now = certificates.from_pem(tls.certificate_pem), datetime.now(UTC)
    if now < own.not_valid_before_utc:
        return f"this node's certificate is not valid yet {_clock()}: set the clock right"
    if now > own.not_valid_after_utc:
        return (
            f"this node's certificate has expired {_clock()}: if the clock is right, ask the operator for a new invite"
        )
    return None


def explain_refusal(word: str) -> str:
    """Explain why a server rejects this node."""
    kind, _, name = word.partition(" ")
    if kind == "codec":
        known = ", ".join((*CODECS, *WIRES, SHARES_A))
        return f"the run sends factors in the form {name!r}, and this release knows {known}; use the server's"
    return _REFUSALS.get(word, word)


def _clock() -> str:
    return f"by this machine's clock, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
