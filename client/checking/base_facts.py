"""The base model of a check, in words."""

from collections.abc import Sequence

from client.checking.checked import Checked
from client.model.quantised import BITS, count_numbers, held_bytes, kind_of


def base_facts(checked: Checked) -> list[tuple[str, str]]:
    """Return what there is to say of the base model."""
    base, asked = checked.base, checked.node.base.dtype
    count, quantised = count_numbers(base.model)
    held = str(base.model.dtype).removeprefix("torch.")
    if kind := kind_of(base.model):
        held = f"{kind}, {BITS[kind]} bits, {quantised / count:.0%} of the parameters; {held} the rest"
    new = {module.name for module in base.head}
    kept = "none" if not checked.node.data.labels else "the checkpoint's own"
    head = ", ".join(sorted(new)) + (", new in place of the checkpoint's" if base.replaced else ", new")
    return [
        ("folder", str(base.folder)),
        ("model", f"{type(base.model).__name__}, {count:,} parameters"),
        ("dtype", f"{held} (dtype = {asked!r}), on {base.device}"),
        ("memory", f"{held_bytes(base.model) / 2**20:,.1f} MiB of the base"),
        ("targets", f"{len(checked.targets)} modules: {_few(checked.targets)}"),
        ("head", head if new else kept),
        ("positions", str(base.positions or "no limit")),
    ]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f", ... {names[-1]}" if len(names) > 2 else "")
