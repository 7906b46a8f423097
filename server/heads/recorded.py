"""The sums behind a head, kept beside the updates of a round, so that `fedlora verify` makes the head again."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from common.adapters.adapter import Factors
from common.heads.class_sums import pack_sums, unpack_sums
from server.heads.fitting import FittedHead, factors_of

_SUMS = "head_sums"


def facts_of(fitted: FittedHead | None) -> dict[str, str]:
    """Return what is kept of a head; nothing if the trained one stays."""
    return {_SUMS: b64encode(pack_sums(fitted.sums)).decode()} if fitted and fitted.sums and fitted.is_kept else {}


def head_from_facts(
    record: Mapping[str, Any] | None, facts: Mapping[str, Any], shape: tuple[int, int]
) -> Factors | None:
    """Return the head that a round ended with, of this shape (C, H); None if it is the trained one.

    Raises:
        CodecError: what is kept are no sums.
        KeyError: they are not kept.
    """
    if not record or not record["kept"]:
        return None
    sums = unpack_sums(b64decode(facts[_SUMS]), *shape, record["kind"] == "lda", whole=False)
    return factors_of(sums, record)
