"""A chat template that settings name by its file; in settings that are used and kept, its text is in place of that."""

import re
from pathlib import Path

from jinja2 import Environment, TemplateSyntaxError

from common.errors import ConfigError
from common.plain_files import SETTINGS, read_plain
from common.settings.reader import user_path

_KEY = "chat_template (in a recipe: [data] chat_template)"
_MARKS = re.compile(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}")
"""Tags that transformers adds to Jinja."""


def read_chat_template(value: str, folder: Path) -> str:
    """Return the text of the template in this file, or the value itself if it is the text.

    Args:
        value: path of a file, or the text of a template, which has `{{` or `{%`.
        folder: that the path is relative to.

    Raises:
        ConfigError: the file cannot be read, or is no template.
    """
    if "{{" in value or "{%" in value:
        return value
    path = folder / user_path(value)
    try:
        text = read_plain(path, SETTINGS, links=True).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{_KEY} = {value!r}: cannot read {path}: {error.strerror}; give a file in Jinja") from None
    except ValueError as error:
        raise ConfigError(f"{_KEY} = {value!r}: {path} is no text in UTF-8 ({error}); save it as such") from None
    _check(text, path, value)
    return text


def _check(text: str, path: Path, value: str) -> None:
    if "messages" not in text or not ("{{" in text or "{%" in text):
        raise ConfigError(f"{_KEY} = {value!r}: {path} does not write messages, so it is no chat template")
    try:
        Environment(autoescape=True, extensions=["jinja2.ext.loopcontrols"]).parse(_MARKS.sub("", text))
    except TemplateSyntaxError as error:
        raise ConfigError(f"{_KEY} = {value!r}: {path}, line {error.lineno}: {error.message}; mend it") from None
