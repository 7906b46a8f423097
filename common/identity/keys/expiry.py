"""Expiry: a warning from 30 days before the end, an urgent warning from 7, each with its remedy; then an error."""

from datetime import datetime

from cryptography import x509

from common.errors import IdentityError

_WARN, _URGE = 30, 7
"""Days before the end."""


def warnings(what: str, end: datetime, remedy: str, now: datetime) -> tuple[str, ...]:
    """Return the warning for something that ends then, if one is due."""
    left = (end - now).days
    if left >= _WARN:
        return ()
    if end < now:
        return (f"{what} expired on {end:%Y-%m-%d}; {remedy}",)
    urgent = "urgent: " if left < _URGE else ""
    return (f"{urgent}{what} expires in {left} days, on {end:%Y-%m-%d}; {remedy}",)


def check_validity(what: str, certificate: x509.Certificate, remedy: str, now: datetime) -> None:
    """Check that a certificate is valid at this time.

    Raises:
        IdentityError: it has expired, or has not begun by this machine's clock.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise IdentityError(*warnings(what, end, remedy, now))
    if now < start:
        raise IdentityError(
            f"{what} is valid from {start:%Y-%m-%d %H:%M} UTC, but this machine's clock shows {now:%Y-%m-%d %H:%M} UTC;"
            " set the clock"
        )
