"""Text that a finished run's language model writes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client.data.batches import pad
from client.data.chats.instructions import Instruction
from client.data.chats.reply import reply_prompt
from client.data.chats.template import has_template
from client.data.layouts import Layout
from client.data.tokens import padding_id, prompt_ids
from client.finished.run import Trained, learned_layout, load_run
from client.model.base_model import BaseModel
from client.model.forward import decoder_inputs
from client.model.lora import frozen_lane
from client.objectives.source_target import Side
from common.adapters.adapter import Adapter
from common.errors import ConfigError, ModelError
from common.settings.tasks import TASKS

_GREEDY = {
    "num_beams": 1,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
}
"""What the settings of a summariser or translator would change of a greedy choice."""


def generate(run: Path, prompt: str, tokens: int, raw: bool = False) -> str:
    """Continue the prompt with the trained model, greedily, up to this many tokens.

    An encoder with a decoder reads the prompt, and writes a text of its own.

    A run that has learned chats reads the prompt as a user's turn, in the chat template, and writes the reply; one that
    has learned instructions reads it as one, in the chat template or in Alpaca's text.

    Args:
        run: its folder.
        prompt: to continue.
        tokens: most to write.
        raw: continue the bare prompt in any case.

    Raises:
        ConfigError: the run's model writes no text, or the prompt is empty or too long.
        DataError: the chat template rejects the prompt.
    """
    trained = load_run(run)
    task = trained.node.data.task
    if not TASKS[task].generates:
        known = " or ".join(f'"{name}"' for name, each in TASKS.items() if each.generates)
        raise ConfigError(f"{run} was trained for {task}; generate needs [data] task = {known}")
    if not prompt:
        raise ConfigError("--prompt is empty; give the text to continue")
    if TASKS[task].seq2seq:
        ids = Side.of(trained.base.tokenizer, written=False).read(prompt)
        _check_sides(len(ids), tokens + _begin(trained.base).shape[1], trained.base.positions)
    else:
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


def continue_text(trained: Trained, adapter: Adapter, ids: Sequence[int], tokens: int) -> str:
    """Continue these token ids with the base plus this adapter, greedily, up to this many tokens.

    For an encoder with a decoder, they are what is read, and the text is what is written.

    Raises:
        ModelError: Transformers cannot generate with this model.
    """
    return continue_texts(trained, adapter, [ids], tokens)[0]


@torch.no_grad()
def continue_texts(trained: Trained, adapter: Adapter, rows: Sequence[Sequence[int]], tokens: int) -> list[str]:
    """Do the same with several rows at once; of several lengths, for an encoder with a decoder alone.

    Raises:
        ModelError: Transformers cannot generate with this model.
    """
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(adapter, skeleton.device)]
    tokenizer = trained.base.tokenizer
    given = pad([np.asarray(row) for row in rows], padding_id(tokenizer)).to(skeleton.device)
    mask = pad([np.ones(len(row), int) for row in rows], 0).to(skeleton.device)
    asked: dict[str, Any] = {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    begun = given.shape[1]
    if TASKS[skeleton.task].seq2seq:
        begin = _begin(skeleton)
        asked |= {"decoder_input_ids": begin.repeat(len(rows), 1), "decoder_start_token_id": int(begin[0, 0])} | _GREEDY
        begun = begin.shape[1]
    try:
        output = _generate(skeleton.model, given, mask, asked)
    except (ValueError, RuntimeError, AttributeError, TypeError, IndexError, NotImplementedError) as error:
        reason = shorten(str(error), 200, placeholder=" ...")
        raise ModelError(
            f"Transformers cannot generate with {trained.base.folder}: {reason}; evaluate, export or merge the run"
        ) from error
    finally:
        lora.lanes = ()
    return [str(tokenizer.decode(row[begun:], skip_special_tokens=True)) for row in output]


def longest_answer(base: BaseModel, max_length: int) -> int:
    """Return how many tokens a decoder may write where what is written has at most `max_length` in training."""
    begun = _begin(base).shape[1]
    return max(1, min(max_length + 1, base.positions or max_length + 1) - begun)


def _begin(base: BaseModel) -> Tensor:
    """Return the ids (1, p) before the first token of a text that a decoder writes, as training had them."""
    side = Side.of(base.tokenizer, written=True)
    marks = torch.tensor([[*side.beginning, *side.end] or [0]], device=base.device)
    given = decoder_inputs(base.model, marks)
    if "decoder_input_ids" in given:
        return given["decoder_input_ids"][:, : len(side.beginning) + 1]
    return torch.tensor([[base.model.config.decoder_start_token_id, *side.beginning]], device=base.device)


def _generate(model: Any, given: Tensor, mask: Tensor, asked: Mapping[str, Any]) -> Tensor:
    try:
        output: Tensor = model.generate(given, attention_mask=mask, **asked)
    except ValueError:  # The cache of Transformers needs a layer with attention that is not linear.
        output = model.generate(given, attention_mask=mask, use_cache=False, **asked)
    return output


def _check_sides(read: int, written: int, positions: int | None) -> None:
    if positions and max(read, written) > positions:
        what, value = ("--prompt", read) if read > positions else ("--tokens", written)
        raise ConfigError(f"{what} comes to {value} tokens, beyond the model's {positions} positions; shorten it")


def _check_room(given: int, tokens: int, positions: int | None) -> None:
    if positions and given + tokens > positions:
        raise ConfigError(
            f"--prompt has {given} tokens, which with --tokens {tokens} exceed the model's {positions} positions; "
            "shorten one of them"
        )
