"""A chat template that settings name (common/settings/chat_template.py)."""

import pytest

from common.errors import ConfigError
from common.settings.chat_template import read_chat_template

TEMPLATE = "{% for m in messages %}{% generation %}{{ m.content }}{%- endgeneration -%}{% endfor %}\n"


def test_found_D9_a_file_becomes_its_text_and_a_text_stays(tmp_path):
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    (tmp_path / "marked.jinja").write_bytes(b"\xef\xbb\xbf" + TEMPLATE.encode())
    for value in ("chat.jinja", "marked.jinja", str(tmp_path / "chat.jinja"), TEMPLATE):
        assert read_chat_template(value, tmp_path) == TEMPLATE


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory; give a file in Jinja"),
        (b"\xff{{ messages }}", "is no text in UTF-8"),
        (b"chatml", "does not write messages, so it is no chat template"),
        (b"{{ bos_token }}", "does not write messages"),
        (b"\n{% for m in messages %}", "line 2: Unexpected end of template"),
        (b"{{ messages | }}", "line 1: "),
        (b"", "does not write messages"),
    ],
)
def test_found_D9_a_file_that_is_no_template_is_refused_by_key_and_path(content, reason, tmp_path):
    if content is not None:
        (tmp_path / "chat.jinja").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_chat_template("chat.jinja", tmp_path)
    assert "chat_template (in a recipe: [data] chat_template) = 'chat.jinja'" in str(error.value)
    assert str(tmp_path) in str(error.value) and reason in str(error.value)
