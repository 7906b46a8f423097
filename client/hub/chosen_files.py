"""The files of a hub's repository that are fetched: what fedlora reads, and nothing that is or could run code."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from client.data.files.kinds import KINDS, ending
from common.huggingface.base_folder import INDEX, WEIGHTS

_TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".md")
"""Endings of configurations, tokenizers and documents."""
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".joblib")
_CODE = (".py", ".ipynb", ".sh", ".so", ".dll")
_SHARD, _COPY = "model-", "consolidated"


@dataclass(frozen=True)
class Chosen:
    """Names of files to fetch, and of those that are left out by reason."""

    taken: tuple[str, ...]
    left: Mapping[str, tuple[str, ...]]


def model_files(names: Sequence[str]) -> Chosen:
    """Return the files of a model: configuration, tokenizer, documents, and weights in safetensors."""
    top = [name for name in names if is_inside(name) and "/" not in name]
    texts = [name for name in top if name.lower().endswith(_TEXTS) or name.upper().startswith(("LICENSE", "NOTICE"))]
    return _chosen(names, (*texts, *_weights(top)))


def _weights(names: Sequence[str]) -> list[str]:
    """Return the files of weights that Transformers reads; of an adapter, or another folder, all."""
    found = [name for name in names if name.endswith(".safetensors")]
    if WEIGHTS in found:
        return [WEIGHTS]
    if INDEX in names:
        return [name for name in found if name.startswith(_SHARD)]
    return [name for name in found if not name.startswith(_COPY)]


def row_files(names: Sequence[str]) -> Chosen:
    """Return the files of a data set: those of rows, and what tells of them."""
    inside = [name for name in names if is_inside(name)]
    notes = [name for name in inside if name.upper().startswith(("README", "LICENSE"))]
    return _chosen(names, (*notes, *(name for name in inside if ending(Path(name)) in KINDS)))


def _chosen(names: Sequence[str], taken: Iterable[str]) -> Chosen:
    kept = set(taken)
    left: dict[str, tuple[str, ...]] = {}
    for name in (name for name in names if name not in kept and not PurePosixPath(name).name.startswith(".")):
        left[_reason(name)] = (*left.get(_reason(name), ()), name)
    return Chosen(tuple(name for name in names if name in kept), left)


def _reason(name: str) -> str:
    if not is_inside(name):
        return "names that lead out of the folder"
    kinds = ((_PICKLES, "pickles, which could run code"), (_CODE, "code, which is never run"))
    return next((reason for endings, reason in kinds if name.lower().endswith(endings)), "not read")


def is_inside(name: str) -> bool:
    """Return whether a name stays in the folder that it is written to, on any system."""
    path = PureWindowsPath(name)
    return not path.is_absolute() and not path.drive and "\\" not in name and not {"..", ""} & {*name.split("/")}
