"""Folders of rows: what the library `datasets` saves, and plain folders of shards; a split is named as in FOLDER/train.

A folder that `datasets` saved has `state.json`, which names its files, and several splits have `dataset_dict.json`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.errors import DataError
from common.plain_files import SETTINGS, read_plain

_SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(-[0-9a-f]{16})?(\.\w+)+")
_FOLDERS = 8
"""Folders that are named, at most."""
_NOTES = ("dataset_info.json", "dataset_infos.json", "state.json", "metadata.json", "config.json")
"""Names of files that tell of a data set, rather than being a part of it."""
_SPLIT = re.compile(r"(train|training|test|testing|validation|valid|val|dev|eval|evaluation)(?![a-zA-Z])[-_0-9a-zA-Z]*")
"""Names of files that are of a split of a data set: its name, and more after it that is no letter."""


def is_folder_of_rows(path: Path) -> bool:
    """Return whether a path is a folder, or a split of one, as FOLDER/train."""
    return path.is_dir() or (not path.exists() and path.parent.is_dir() and bool(_of_split(path)))


def files_of(path: Path, endings: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of a folder of rows, or of a split of one, in order.

    Args:
        path: of the folder, or FOLDER/SPLIT.
        endings: of files of rows.

    Raises:
        DataError: it has no rows, several splits, files of several kinds, or lacks a file.
    """
    if not path.is_dir():
        return _complete(path, _of_split(path))
    if (path / "dataset_dict.json").is_file():
        raise _several(path, _texts(_json(path / "dataset_dict.json"), "splits"))
    if (path / "state.json").is_file():
        return _saved(path)
    return _shards(path, endings)


def _of_split(path: Path) -> tuple[Path, ...]:
    """Return the files of the split FOLDER/SPLIT."""
    found = (each for each in sorted(path.parent.iterdir()) if not each.name.startswith("."))
    return tuple(each for each in found if _split_of(each) == path.name)


def _split_of(file: Path) -> str | None:
    if shard := _SHARD.fullmatch(file.name):
        return shard["split"]
    found = _SPLIT.fullmatch(file.name.partition(".")[0])
    return found[1] if found and "." in file.name else None


def _saved(path: Path) -> tuple[Path, ...]:
    state = _json(path / "state.json")
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(f"{path} keeps a choice of its rows apart; save it again after flatten_indices()")
    listed = state.get("_data_files")
    names = [each.get("filename") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    files = tuple(path / Path(str(name)).name for name in names)
    if not files or any(not file.is_file() for file in files):
        lacking = next((file for file in files if not file.is_file()), "any file of rows")
        raise DataError(f"{path / 'state.json'} names files of rows, but {path} lacks {lacking}; copy the whole folder")
    return files


def _shards(path: Path, endings: Sequence[str]) -> tuple[Path, ...]:
    visible = [file for file in sorted(path.iterdir()) if _is_visible(file)]
    files = tuple(file for file in visible if _has_rows(file, endings))
    if not files:
        inner = [each.name for each in visible if each.is_dir()]
        known = ", ".join(each for each in endings if each.count(".") == 1)
        more = ", ..." * (len(inner) > _FOLDERS)
        remedy = (
            f"give one of its folders: {', '.join(inner[:_FOLDERS])}{more}"
            if inner
            else f"it needs files that end in {known}"
        )
        raise DataError(f"{path} is a folder, not a file, and has no files of rows; {remedy}")
    _check_one_split(path, files)
    kinds = {_kind(file, endings) for file in files}
    if len(kinds) > 1:
        raise DataError(f"{path} has files of several kinds, {', '.join(sorted(kinds))}; give one of the files")
    for folder in (each for each in visible if each.is_dir()):
        if any(_is_visible(file) and _has_rows(file, endings) for file in folder.iterdir()):
            raise DataError(
                f'{path} has files of rows in it and in {folder.name}/; give "{folder}", or a folder without it'
            )
    return _complete(path, files)


def _check_one_split(path: Path, files: Sequence[Path]) -> None:
    splits = [*dict.fromkeys(split for file in files if (split := _split_of(file)))]
    other = next((file for file in files if _split_of(file) is None), None)
    if len(splits) > 1:
        raise _several(path, splits)
    if splits and other:
        what = f"{path} has files of the split {splits[0]!r} and others, as {other.name}"
        raise DataError(f'{what}; give "{path}/{splits[0]}" or "{other}"')


def _is_visible(file: Path) -> bool:
    return not file.name.startswith((".", "_"))


def _has_rows(file: Path, endings: Sequence[str]) -> bool:
    """Return whether a path is by its name one of rows, and not of what tells of a data set."""
    return file.name.lower().endswith(tuple(endings)) and file.name not in _NOTES


def _kind(file: Path, endings: Sequence[str]) -> str:
    return max((each for each in endings if file.name.lower().endswith(each)), key=len)


def _complete(path: Path, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the files.

    Raises:
        DataError: by the names of the others, a shard is missing.
    """
    shards = [shard for file in files if (shard := _SHARD.fullmatch(file.name))]
    if shards:
        numbers, count = {int(shard["number"]) for shard in shards}, int(shards[0]["count"])
        if lacking := sorted({*range(count)} - numbers)[:5]:
            raise DataError(f"{path} lacks shard {lacking[0]} of {count} (counted from 0); copy the whole folder")
    return files


def _several(path: Path, splits: Sequence[str]) -> DataError:
    names = ", ".join(f'"{path}/{split}"' for split in splits)
    return DataError(f"{path} has several splits; name one: {names} (data of a node, [data] path of a recipe)")


def _texts(value: Any, key: str) -> list[str]:
    found = value.get(key)
    return [str(each) for each in found] if isinstance(found, list) else []


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_plain(path, SETTINGS, links=True))
    except (OSError, ValueError, RecursionError) as error:
        what = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {what}; copy the folder again") from None
    if not isinstance(value, dict):
        raise DataError(f"{path} is not a JSON object; copy the folder again")
    return value
