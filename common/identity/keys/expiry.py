"""Expiry: a warning from 30 days before the end, an urgent one from 7, each with its remedy; then an error."""

from datetime import datetime

from cryptography import x509

from common.errors import IdentityError

_WARN, _URGE = 30, 7
"""Days."""


def warnings(what: str, end: datetime, remedy: str, now: datetime) -> tuple[str, ...]:
    """Return the warning that is due for something that ends then, if any."""
    left = (end - now).days
    if left >= _WARN:
        return ()
    if end < now:
        return (f"{what} expired on {end:%Y-%m-%d}; {remedy}",)
    urgent = "urgent: " if left < _URGE else ""
    return (f"{urgent}{what} expires in {left} days, on {end:%Y-%m-%d}; {remedy}",)


def check_validity(what: str, certificate: x509.Certificate, remedy: str, now: datetime) -> None:
    """Refuse a certificate outside its time.

    Raises:
        IdentityError: it has expired, or has not begun by this machine's clock.
    """
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > end:
        raise IdentityError(*warnings(what, end, remedy, now))
    if now < start:
        raise IdentityError(
            f"{what} begins on {start:%Y-%m-%d %H:%M} UTC, but the clock of this machine says {now:%Y-%m-%d %H:%M} UTC;"
            " set the clock"
        )
