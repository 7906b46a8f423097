"""The name of a base model for those who get an adapter: never a folder of the operator."""

from pathlib import Path

from client.exporting.request import is_hub_name
from common.errors import JournalError
from common.huggingface.base_folder import public_name, read_json
from common.huggingface.peft_config import CONFIG


def base_name(run: Path, base: Path) -> str:
    """Return the name that a run's published adapter has for its base; of a path, the last part.

    Args:
        run: its folder.
        base: folder of the base, whose name it is if the run, a node's, has no PEFT folder.

    Raises:
        JournalError: the adapter names none.
    """
    if not (run / "adapter").exists():
        return public_name(str(base))
    config = read_json(run / "adapter" / CONFIG)
    name = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not (isinstance(name, str) and name):
        raise JournalError(f"{run / 'adapter' / CONFIG} names no base model; give its name by --base-name ORG/NAME")
    return name if is_hub_name(name) else public_name(name)
