"""Upload of an exported folder to a hub, only where a user asks for it."""

import shlex
from pathlib import Path
from textwrap import shorten

from huggingface_hub import HfApi, get_token

from client.hub.online import online
from common.errors import ConfigError, RunError


def check_push(name: str) -> None:
    """Check that there is a token to upload with.

    Raises:
        ConfigError: there is none.
    """
    if not get_token():
        raise ConfigError(f"--push {name} needs a token of the hub; set HF_TOKEN, or type `hf auth login` once")


def push(folder: Path, name: str) -> str:
    """Upload a folder to the model `ORG/NAME`, which is made private if it does not exist; return what to tell of it.

    Raises:
        RunError: the hub refused it, or cannot be reached.
    """
    try:
        with online():
            hub = HfApi()
            hub.create_repo(name, private=True, exist_ok=True)
            done = hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload by fedlora")
    except Exception as error:  # The library, and those beneath it, raise many kinds of errors.
        reason = shorten(str(error) or type(error).__name__, 300, placeholder=" ...")
        again = shlex.join(["hf", "upload", "--private", name, str(folder)])
        raise RunError(f"{folder} is written, but could not be uploaded: {reason}; upload it with: {again}") from error
    return f"pushed: {done.commit_url}"
