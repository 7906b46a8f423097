"""Docstrings of the functions and classes in a folder of Python files, which are parsed and never imported."""

import ast
import hashlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TESTS = {"test", "tests", "testing"}
_FOREIGN = {"_vendor", "_vendored", "vendor", "vendored", "externals", "extern", "site-packages", "dist-packages"}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Documented:
    """A function or class: its qualified name, its first line of source, and the first sentence of its docstring."""

    name: str
    signature: str
    sentence: str


def sources(folder: Path) -> list[Path]:
    """Return the folder's Python files without tests and bundled packages, ordered by the hash of their names."""
    relative = (path.relative_to(folder) for path in folder.rglob("*.py"))
    own = (path for path in relative if not (_TESTS | _FOREIGN).intersection(path.parts))
    return [folder / path for path in sorted(own, key=lambda path: text_hash(path.as_posix()))]


def text_hash(text: str) -> str:
    """Return the SHA-256, for an order that depends on the text alone."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_documented(path: Path, module: str) -> Iterator[Documented]:
    """Yield each function and class of the file that has a docstring, in order; none if it is not valid Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library's invalid escapes do not concern us
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return
    yield from _below(tree, module)


def _below(parent: ast.AST, prefix: str) -> Iterator[Documented]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, _Documented):
            name = f"{prefix}.{node.name}"
            sentence = first_sentence(ast.get_docstring(node) or "")
            if sentence:
                yield Documented(name, _signature(node), sentence)
            yield from _below(node, name)
        elif isinstance(node, ast.stmt):
            yield from _below(node, prefix)


def first_sentence(docstring: str) -> str:
    """Return the text up to the first end of a sentence or paragraph, on one line."""
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    return _SENTENCE_END.split(" ".join(paragraph.split()), maxsplit=1)[0]


def _signature(node: _Documented) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{keyword} {node.name}({ast.unparse(node.args)}){returns}"
