"""`fedlora fetch`: a model or a data set of a hub as a folder, which appears when it is whole."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

from huggingface_hub import HfApi, constants, errors, hf_hub_download
from huggingface_hub.utils._validators import validate_repo_id
from huggingface_hub.utils.tqdm import disable_progress_bars
from rich.console import Console
from rich.filesize import decimal

from client.data.files.source import open_rows
from client.hub.chosen_files import Chosen, model_files, row_files
from client.hub.online import online
from common.atomic_files import move_folder
from common.errors import ConfigError, DataError, FedloraError, ModelError, RunError
from common.huggingface.base_folder import safetensors_files

_SHOWN = 6
Kind = Literal["model", "dataset"]


def fetch(name: str, folder: Path | None, kind: Kind, revision: str | None) -> list[str]:
    """Fetch a repository into a new folder and return what to tell.

    What an interrupted one has fetched lies beside the folder, and the next goes on from there.

    Args:
        name: of the repository, as ORG/NAME.
        folder: to make; NAME in the current folder if not given.
        kind: of the repository.
        revision: branch, tag or commit; the newest if not given.

    Raises:
        ConfigError: the folder exists, or there is no such repository or revision, or it needs a token.
        ModelError, DataError: it has nothing that fedlora reads.
        RunError: the hub cannot be reached, or sent something else than it promised.
    """
    _check_name(name)
    path = folder or Path(name.rpartition("/")[2])
    if os.path.lexists(path):
        raise ConfigError(f"{path} exists and is left as it is; name another folder, or remove it")
    with online(), _explained(name, kind, revision):
        look_up = HfApi().model_info if kind == "model" else HfApi().dataset_info
        info = look_up(name, revision=revision, files_metadata=True)
        commit, listed = str(info.sha), info.siblings or []
        chosen = _choose(name, kind, [each.rfilename for each in listed])
        files = [each for each in listed if each.rfilename in chosen.taken]
        part = path.absolute().with_name(f".{path.name}.{commit[:12]}.part")
        _fetch_all(name, kind, commit, files, part)
    shutil.rmtree(part / ".cache", ignore_errors=True)
    move_folder(part, path)
    size = sum(each.size or 0 for each in files)
    whole = f"fetched: {path} ({name} at {commit[:12]}, {len(files)} files, {decimal(size)})"
    return [whole, *_left(chosen), *_next(path, kind)]


def _check_name(name: str) -> None:
    try:
        validate_repo_id(name)
    except errors.HFValidationError:
        raise ConfigError(f"{name!r} is not a name on a hub; write ORG/NAME") from None


def _choose(name: str, kind: Kind, names: Sequence[str]) -> Chosen:
    chosen = model_files(names) if kind == "model" else row_files(names)
    if kind == "model" and not any(each.endswith(".safetensors") for each in chosen.taken):
        lines = "; ".join(_left(chosen)) or "it is empty"
        raise ModelError(
            f"{name} has no weights in safetensors ({lines}); choose a model, or a revision, that has them"
        )
    if kind == "dataset" and not any(not each.upper().startswith(("README", "LICENSE")) for each in chosen.taken):
        lines = "; ".join(_left(chosen)) or "it is empty"
        raise DataError(f"{name} has no files of rows ({lines}); a revision refs/convert/parquet may have them")
    return chosen


def _fetch_all(name: str, kind: Kind, commit: str, files: Sequence[Any], part: Path) -> None:
    """Fetch the files into a folder that may have some of them."""
    console = Console(stderr=True)
    if not console.is_terminal:
        disable_progress_bars()
    for number, each in enumerate(files, 1):
        if not console.is_terminal:
            size = decimal(each.size or 0)
            console.print(
                f"{number}/{len(files)} {each.rfilename}, {size}", markup=False, highlight=False, soft_wrap=True
            )
        file = Path(hf_hub_download(name, each.rfilename, repo_type=kind, revision=commit, local_dir=part))
        _check_hash(file, each.lfs.sha256 if each.lfs else None)


def _check_hash(file: Path, expected: str | None) -> None:
    if expected is None:
        return
    with file.open("rb") as content:
        found = file_digest(content, "sha256").hexdigest()
    if found != expected:
        file.unlink()
        raise RunError(f"{file.name} is damaged: its SHA-256 is not what the hub says; type the command again")


@contextmanager
def _explained(name: str, kind: Kind, revision: str | None) -> Iterator[None]:
    """Turn what the hub's library raises into our errors, with the remedy."""
    hub, token = constants.ENDPOINT, "set HF_TOKEN, or type `hf auth login` once"
    what = "model" if kind == "model" else "data set"
    try:
        yield
    except FedloraError:
        raise
    except errors.GatedRepoError:
        page = f"{hub}/{'datasets/' * (kind == 'dataset')}{name}"
        raise ConfigError(f"{name} is gated: accept its terms at {page}, then {token}") from None
    except errors.RevisionNotFoundError:
        raise ConfigError(f"{name} has no revision {revision!r}; name a branch, a tag or a commit of it") from None
    except errors.RepositoryNotFoundError:
        other = "; if it is a data set, add --dataset" if kind == "model" else "; if it is a model, omit --dataset"
        raise ConfigError(f"{hub} has no {what} {name!r}; correct the name{other}; if it is private, {token}") from None
    except Exception as error:  # The library, and those beneath it, raise many kinds of errors.
        if isinstance(error, OSError) and error.errno is not None:
            raise  # Of the disk.
        reason = shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
        remedy = "check the network, HTTPS_PROXY and HF_ENDPOINT; the command goes on where it stopped"
        raise RunError(f"{name} could not be fetched from {hub}: {reason}; {remedy}") from error


def _left(chosen: Chosen) -> list[str]:
    return [
        f"left out ({reason}): {', '.join(names[:_SHOWN])}"
        + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        for reason, names in chosen.left.items()
    ]


def _next(path: Path, kind: Kind) -> Iterator[str]:
    """Yield how to use the folder, or why a run would refuse it."""
    if kind == "model":
        try:
            safetensors_files(path)
            yield f"next: fedlora init recipe --data ROWS --base {path}"
        except ModelError as error:
            yield f"a run would refuse it as a base: {error}"
        return
    for folder in sorted({file.parent for file in path.rglob("*") if file.is_file()}):
        try:
            yield f"next: fedlora check {open_rows(folder).path}"
        except DataError as error:
            if "several splits" in str(error):
                yield str(error)
