"""Text that a finished run's language model writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor

from client.data.chats.instructions import Instruction
from client.data.chats.reply import reply_prompt
from client.data.chats.template import has_template
from client.data.layouts import Layout
from client.data.tokens import prompt_ids
from client.finished.run import Trained, learned_layout, load_run
from client.model.lora import frozen_lane
from common.adapters.adapter import Adapter
from common.errors import ConfigError, ModelError
from common.settings.tasks import TASKS


def generate(run: Path, prompt: str, tokens: int, raw: bool = False) -> str:
    """Continue the prompt with the trained model, greedily, up to this many tokens.

    A run that has learned chats reads the prompt as a user's turn, in the chat template, and writes the reply; one that
    has learned instructions reads it as one, in the chat template or in Alpaca's text.

    Args:
        run: its folder.
        prompt: to continue.
        tokens: most to write.
        raw: continue the bare prompt in any case.

    Raises:
        ConfigError: the run's model is no causal language model, or the prompt is empty or too long.
        DataError: the chat template rejects the prompt.
    """
    trained = load_run(run)
    task = trained.node.data.task
    if not TASKS[task].causal:
        known = " or ".join(f'"{name}"' for name, each in TASKS.items() if each.causal)
        raise ConfigError(f"{run} was trained for {task}; generate needs [data] task = {known}")
    if not prompt:
        raise ConfigError("--prompt is empty; give the text to continue")
    ids = _given(trained, prompt, None if raw else learned_layout(run))
    _check_room(len(ids), tokens, trained.base.positions)
    return continue_text(trained, trained.adapter, ids, tokens)


def _given(trained: Trained, prompt: str, layout: Layout | None) -> list[int]:
    """Return the ids of a prompt as rows of this layout begin."""
    tokenizer, asked = trained.base.tokenizer, Instruction(prompt)
    instructs = layout is not None and layout.kind == "instruction"
    if (instructs and has_template(tokenizer)) or (layout is not None and layout.kind == "chat"):
        return reply_prompt(tokenizer, asked.messages, fold=trained.node.data.system == "fold")
    return prompt_ids(tokenizer, asked.text if instructs else prompt)


@torch.no_grad()
def continue_text(trained: Trained, adapter: Adapter, ids: Sequence[int], tokens: int) -> str:
    """Continue these token ids with the base plus this adapter, greedily, up to this many tokens.

    Raises:
        ModelError: Transformers cannot generate with this model.
    """
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(adapter, skeleton.device)]
    given, tokenizer = torch.tensor([list(ids)], device=skeleton.device), trained.base.tokenizer
    asked = {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    try:
        output = _generate(skeleton.model, given, asked)
    except (ValueError, RuntimeError, AttributeError, TypeError, IndexError, NotImplementedError) as error:
        reason = shorten(str(error), 200, placeholder=" ...")
        raise ModelError(
            f"Transformers cannot generate with {trained.base.folder}: {reason}; evaluate, export or merge the run"
        ) from error
    finally:
        lora.lanes = ()
    return str(tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))


def _generate(model: Any, given: Tensor, asked: Mapping[str, Any]) -> Tensor:
    mask = torch.ones_like(given)
    try:
        output: Tensor = model.generate(given, attention_mask=mask, **asked)
    except ValueError:  # The cache of Transformers needs a layer with attention that is not linear.
        output = model.generate(given, attention_mask=mask, use_cache=False, **asked)
    return output


def _check_room(given: int, tokens: int, positions: int | None) -> None:
    if positions and given + tokens > positions:
        raise ConfigError(
            f"--prompt has {given} tokens, which with --tokens {tokens} exceed the model's {positions} positions; "
            "shorten one of them"
        )
