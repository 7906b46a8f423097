"""Whether a file of rows has none, told at a glance: before a node connects, and without reading the whole file."""

from itertools import islice
from pathlib import Path

from client.data.files.arrow import is_without_arrow_rows
from client.data.files.folder import files_of, is_folder_of_rows
from client.data.files.kinds import ENDINGS, ending
from client.data.files.text import bounded_lines, open_text
from common.errors import DataError
from common.plain_files import check_plain

_HEADED = (".csv", ".tsv")
"""Endings of files whose first line names the columns."""


def is_without_rows(path: Path, encoding: str = "utf-8") -> bool:
    """Return whether a file of rows is empty, or has only blank lines and, in a table, its header.

    A folder is if all of its files are. What else may be wrong with a file is for its reader to say.

    Raises:
        OSError: it cannot be read, or is neither a plain file nor a folder of rows.
        DataError: a folder has no files of rows, or several splits.
    """
    if is_folder_of_rows(path):
        return all(is_without_rows(file, encoding) for file in files_of(path, ENDINGS))
    check_plain(path, links=True)
    if ending(path) in (".parquet", ".arrow"):
        return is_without_arrow_rows(path)
    needed = 2 if ending(path) in _HEADED else 1
    try:
        with open_text(path, encoding) as text:
            return len(list(islice(bounded_lines(text), needed))) < needed
    except DataError:
        return False
