"""Exports of finished runs."""

from client.exporting.export import export
from client.exporting.request import Request


def exported(run, out, **asked):
    """Return the lines that an export prints."""
    return export(run, out, Request(**asked))
