"""A strict look at an HTML page: what it says, what it refers to, whether its elements nest."""

from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Text, tags, ids and references of a page, gathered while it is parsed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.text, self.tags, self.ids, self.references = "", [], [], []
        self.misnested: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.misnested += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.references.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.misnested.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def outside(self) -> list[str]:
        """References that would be fetched."""
        return [reference for reference in self.references if not reference.startswith(("#", "data:"))]


def read_page(path: Path) -> Page:
    """Read the page at this path."""
    return Page(path.read_text(encoding="utf-8"))
