"""Bases whose folder names code: where it runs, it leaves a file."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.helpers.client.bases import copied

Spoil = Callable[[Path], object]


def _code(folder: Path) -> str:
    """Return a module that leaves the file RAN beside the folder when it is imported."""
    return (
        f"open({str(folder.parent / 'RAN')!r}, 'w').close()\n"
        "from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer\n"
        "class Config(GPT2Config):\n    model_type = 'odd'\n"
        "class Model(GPT2LMHeadModel):\n    config_class = Config\n"
        "class Tokenizer(GPT2Tokenizer):\n    pass\n"
    )


def _set(folder: Path, file: str, **keys: object) -> None:
    path = folder / file
    read = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(read | keys))


def _auto(folder: Path, repository: str = "") -> dict[str, str]:
    classes = {"AutoConfig": "Config", "AutoModelForCausalLM": "Model", "AutoModelForSequenceClassification": "Model"}
    return {auto: f"{repository}code.{name}" for auto, name in classes.items()}


def _generate(folder: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(_code(folder) + "def generate(model, **rest): pass\n")


SPOILS: dict[str, Spoil] = {
    "a model of unknown type": lambda f: _set(f, "config.json", model_type="odd", auto_map=_auto(f)),
    "a model of known type": lambda f: _set(f, "config.json", auto_map=_auto(f)),
    "another repository": lambda f: _set(f, "config.json", model_type="odd", auto_map=_auto(f, "other/repo--")),
    "a part of the model": lambda f: _set(f, "config.json", text_config={"parts": [{"auto_map": _auto(f)}]}),
    "a tokenizer": lambda f: _set(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Tokenizer", None]}),
    "a tokenizer of unknown class": lambda f: _set(
        f, "tokenizer_config.json", tokenizer_class="Odd", auto_map={"AutoTokenizer": ["code.Tokenizer", None]}
    ),
    "a configuration of another version": lambda f: (
        _set(f, "config.json", configuration_files=["config.4.0.0.json"]),
        _set(f, "config.4.0.0.json", model_type="odd", auto_map=_auto(f)),
    ),
    "a generation": _generate,
    "the settings of a generation": lambda f: _set(f, "generation_config.json", custom_generate="code.py"),
    "an adapter": lambda f: _set(
        f, "adapter_config.json", peft_type="LORA", auto_mapping={"base_model_class": "Model", "parent_library": "code"}
    ),
    "a kernel": lambda f: _set(f, "config.json", attn_implementation="other/kernel"),
}
"""What in the folder names code; each writes it there."""


def with_code(kind: str, folder: Path, spoil: Spoil = lambda folder: None) -> Path:
    """Copy a tiny base, put code beside it, and let the folder name it by `spoil`; without that, nothing does."""
    copied(kind, folder)
    (folder / "code.py").write_text(_code(folder))
    spoil(folder)
    return folder
