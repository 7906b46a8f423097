"""The model card of an exported folder, `README.md`: what it is, where it comes from, and how to open it."""

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from client.exporting.card_facts import Written, read_facts
from client.exporting.gguf_file import FILE
from client.exporting.node_facts import read_node_facts
from client.exporting.request import Request
from client.finished.run import Trained
from client.model.base_model import AUTO_MODELS
from client.results.folder import NodeFolder
from common.atomic_files import write_file
from common.errors import printable
from common.settings.tasks import TASKS, problem_of

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What `vllm serve --max-lora-rank` takes (vllm/config/lora.py), but for 1."""

_PIPELINES = {
    "SEQ_CLS": "text-classification",
    "CAUSAL_LM": "text-generation",
    "SEQ_2_SEQ_LM": "text2text-generation",
}
_LIBRARIES = {"peft": "peft", "gguf": "gguf", "merged": "transformers"}
_MARKDOWN = re.compile(r"[!#$&*+.:<>@\[\\\]^_`{|}~]")
"""Punctuation that means something inside a line, links without brackets included; a backslash makes it plain text
(CommonMark, section 2.4).
"""


def write_card(folder: Path, run: Path, trained: Trained, base: str, written: Written, request: Request) -> None:
    """Write `README.md` into an exported folder.

    Args:
        folder: that was exported.
        run: that it comes from.
        trained: the run's update.
        base: name of the base model.
        written: what was written.
        request: that it answers.
    """
    text = (
        _environment()
        .get_template("card.md.j2")
        .render(
            front=Markup(_front_matter(trained, base, request)),  # noqa: S704  # YAML by its own library.
            facts=read_node_facts(NodeFolder.open(run)) if NodeFolder.is_at(run) else read_facts(run),
            base=base,
            data=trained.node.data,
            labelled=TASKS[trained.node.data.task].labels,
            problem=problem_of(trained.node.data),
            causal=TASKS[trained.node.data.task].causal,
            model=AUTO_MODELS[TASKS[trained.node.data.task].peft].__name__,
            head=[module.name for module in trained.base.head],
            pad=getattr(trained.base.model.config, "pad_token_id", None),
            written=written,
            form=request.form,
            place=request.push or ".",
            file=FILE,
            vllm=next((rank for rank in VLLM_RANKS if rank >= (written.rank or 0)), None),
        )
    )
    write_file(folder / "README.md", text.encode())


def _front_matter(trained: Trained, base: str, request: Request) -> str:
    on_hub = "/" in base or request.base_name is not None
    data = ModelCardData(
        base_model=base if on_hub else None,
        library_name=_LIBRARIES[request.form],
        pipeline_tag=_PIPELINES[TASKS[trained.node.data.task].peft],
        tags=["lora", "federated-learning", "fedlora"],
    )
    return str(data.to_yaml())


def _environment() -> Environment:
    """Return the template's environment, in which what is not marked as safe is plain text of Markdown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_plain,
        autoescape=False,  # noqa: S701  # Not HTML; `finalize` escapes for Markdown.
    )
    environment.filters |= {"python": _python, "shell": _shell, "number": partial(_number, "{:.4g}")}
    return environment


def _plain(value: Any) -> Any:
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _MARKDOWN.sub(r"\\\g<0>", printable(value))


def _python(value: Any) -> Markup:
    """Spell a value in a block of Python; a literal has no line break, so it cannot end the block."""
    return Markup(repr(value))  # noqa: S704


def _shell(value: str) -> Markup:
    return Markup(shlex.quote(printable(value)))  # noqa: S704


def _number(form: str, value: float) -> Markup:
    return Markup(form.format(value))  # noqa: S704
