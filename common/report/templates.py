"""The pages' templates: whatever is put into one is escaped, save figures, which are drawn here."""

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from common.errors import printable
from common.report import formats


def template(folder: Path, name: str) -> Template:
    """Return a template of a folder, which may extend or import those beside this file."""
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    for show in (formats.decimal, formats.percent, formats.small, formats.size, formats.duration, formats.spans):
        environment.filters[show.__name__] = show
    return environment.get_template(name)


def figures_as_markup(drawn: Mapping[str, str]) -> dict[str, Markup]:
    """Return figures that a template does not escape."""
    return {name: Markup(svg) for name, svg in drawn.items()}  # noqa: S704 - matplotlib escapes its text


def _visible(value: object) -> object:
    """Return a text without characters that would reorder or hide others: they are written as escapes."""
    return printable(value, "\n\t") if type(value) is str else value
