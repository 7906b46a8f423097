"""`fedlora export` and `fedlora merge`: a finished run as a folder for other programs, with a model card."""

from pathlib import Path

import torch

from client.exporting.base_name import base_name
from client.exporting.card import write_card
from client.exporting.card_facts import Written
from client.exporting.gguf_file import FILE, check_gguf, write_gguf
from client.exporting.peft_check import check_known, check_loaded
from client.exporting.push import check_push, push
from client.exporting.request import Request, check_request
from client.exporting.uniform import Truncation, pad, truncate
from client.finished.merge import merge_into_base
from client.finished.run import Trained, check_new, load_run
from client.model.precision import stored_dtype
from client.model.quantised import kind_of
from common.adapters.adapter import Adapter
from common.atomic_files import make_atomically
from common.errors import ModelError
from common.huggingface.fingerprint_parts import BASE, folder_parts
from common.huggingface.peft_folder import write_peft_folder


def export(run: Path, out: Path, request: Request) -> list[str]:
    """Write a run's global update to a new folder, and upload it if that is asked; return what to tell of it.

    Raises:
        ConfigError: an option is wrong, or `out` exists; nothing is written.
        ModelError: the form cannot hold the update; nothing is written.
        RunError: the upload failed; the folder is whole.
    """
    check_request(request)
    if request.push:
        check_push(request.push)
    check_new(out)
    trained, base = load_run(run), request.base_name
    base = base or base_name(run, trained.base.folder)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with make_atomically(out) as folder:
        written = _write(run, trained, folder, base, request)
        write_card(folder, run, trained, base, written, request)
    lines = [*written.lines, f"{request.form}: {out}"]
    return [*lines, push(out, request.push)] if request.push else lines


def _write(run: Path, trained: Trained, folder: Path, base: str, request: Request) -> Written:
    if request.form == "merged":
        return _write_merged(run, trained, folder, request)
    if request.form == "gguf":
        check_gguf(trained)
    else:
        check_known(trained)
    head = {module.name for module in trained.base.head}
    body = Adapter({name: factors for name, factors in trained.adapter.items() if name not in head})
    body, told = truncate(body, request.rank) if request.rank else (body, None)
    adapter = pad(body, request.rank)
    if request.form == "gguf":
        folder.mkdir()
        write_gguf(folder / FILE, trained, adapter)
    else:
        _write_peft(trained, folder, base, adapter)
        check_loaded(folder, trained, adapter)
    return Written(_tell(adapter, len(head), told), adapter.rank, told)


def _write_peft(trained: Trained, folder: Path, base: str, adapter: Adapter) -> None:
    modules = trained.base.model.get_submodule
    embeddings = [name for name in adapter if isinstance(modules(name), torch.nn.Embedding)]
    head = {module.name: trained.adapter[module.name] for module in trained.base.head}
    whole = Adapter({**adapter, **head})
    stated = folder_parts(trained.base.folder)[BASE]
    write_peft_folder(folder, whole, trained.base.head, base, trained.node.data.task, embeddings, stated)
    if (template := trained.node.data.chat_template) is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write_merged(run: Path, trained: Trained, folder: Path, request: Request) -> Written:
    dtype = stored_dtype(trained.base.folder) if request.dtype == "auto" else getattr(torch, request.dtype)
    gap, name = merge_into_base(run, trained, folder, dtype), str(dtype).removeprefix("torch.")
    told = f"logit gap to base + adapter: {gap.largest:.2e}, mean {gap.mean:.2e}"
    if not gap.share <= request.max_gap:  # so that NaN is refused
        raise ModelError(
            f"{told}, which is {gap.share:.1%} of the standard deviation of the logits, above --max-gap "
            f"{request.max_gap}; nothing is written: merge with --dtype float32, export an adapter (--format peft), or "
            "raise the bound"
        )
    held = kind_of(trained.base.model)
    kept = (f"layers held in {held} are written with the weights that the run computed with",) if held else ()
    return Written((f"{name}; largest {told}", *kept), dtype=name)


def _tell(adapter: Adapter, head: int, told: Truncation | None) -> tuple[str, ...]:
    whole = f", and the head, {head} in full" if head else ""
    line = f"{len(adapter)} modules, rank {adapter.rank}{whole}"
    if told is None:
        return (line,)
    lost = f"{told.error:.2e} over all modules, {told.worst_error:.2e} in the worst, {told.worst}"
    return (line, f"relative error of rank {told.rank}: {lost}")
