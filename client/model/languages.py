"""The languages of a tokenizer that marks each text with its own, as those of mBART, NLLB and M2M100 do."""

import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

from client.model.base_model import BaseModel
from common.errors import ConfigError, nearest

_SHOWN = 8


@lru_cache(maxsize=4)
def with_languages(base: BaseModel, source: str | None, target: str | None) -> BaseModel:
    """Return the base with a tokenizer that reads texts of one language and writes those of another.

    Raises:
        ConfigError: the tokenizer needs languages and one is not set or unknown; or it has none, and one is set.
    """
    keys = {"src_lang": source, "tgt_lang": target}
    if not hasattr(base.tokenizer, "set_tgt_lang_special_tokens"):
        if given := [key for key, value in keys.items() if value is not None]:
            raise ConfigError(
                f"{_key(given[0])} = {keys[given[0]]!r}, but the tokenizer of {base.folder} marks no languages; "
                "leave the key out"
            )
        return base
    tokenizer = copy.deepcopy(base.tokenizer)
    for key, value in keys.items():
        _check(base, key, value)
        setattr(tokenizer, key, value)
    return replace(base, tokenizer=tokenizer)


def _check(base: BaseModel, key: str, value: str | None) -> None:
    known = _languages(base.tokenizer)
    shown = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    if value is None:
        raise ConfigError(
            f"the tokenizer of {base.folder} marks each text with its language; set {_key(key)} to one of {shown}"
        )
    if value not in known:
        raise ConfigError(
            f"{_key(key)} = {value!r} is no language of the tokenizer of {base.folder}{nearest(value, known)}; it has "
            f"{shown}"
        )


def _languages(tokenizer: Any) -> list[str]:
    """Return the languages as settings spell them: PLBart and M2M100 put underscores around them in a text."""
    tables = (getattr(tokenizer, name, None) for name in ("lang_code_to_token", "lang_code_to_id"))
    found = next((table for table in tables if table), tokenizer.all_special_tokens)
    names = {tokenizer.unk_token, tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token}
    names |= {tokenizer.sep_token, tokenizer.cls_token, tokenizer.mask_token}
    return sorted(name.strip("_") for name in found if name not in names)


def _key(key: str) -> str:
    return f"{key} (in a recipe: [data] {key})"
