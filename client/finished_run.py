"""Use of a finished run: evaluate, export or merge its global update, or generate text with it.

Only the run's folder is needed: `adapter/` contains the update in PEFT's format, `test.toml` names the base model,
task, labels and test rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from client.data.batches import Batch
from client.data.rows import read_rows
from client.model.base_model import AUTO_MODELS, BaseModel
from client.model.forward import forward
from client.model.lora import Lora, frozen_lane, merge
from client.node import attach_lora, load_node_base, read_examples
from client.objectives.examples import Examples, eval_batches, subset
from client.settings import read_node
from client.training.evaluate import Score, evaluate
from common.adapters import lowrank
from common.adapters.adapter import Adapter, Array, Factors
from common.closed_folders import check_run
from common.errors import ConfigError, JournalError
from common.huggingface.new_head import initial_weight
from common.huggingface.peft_folder import read_peft_folder, write_peft_folder
from common.published import check_published
from common.settings.node import Node
from common.settings.tasks import TASKS

PROBE = 32
"""Number of test rows on which a merged model is compared with base and adapter."""

SENTENCE = "A merged model answers as its base and adapter do."
"""The text to compare on if a run has no test rows."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A run's frozen base and its global update, with the head as factors."""

    node: Node
    base: BaseModel
    adapter: Adapter

    def attach(self) -> tuple[BaseModel, Lora]:
        """Return a model to which this update, or part of it, can be added."""
        return attach_lora(self.base, tuple(self.adapter))


def load_run(run: Path) -> Trained:
    """Load a run's base model and its latest global update.

    Raises:
        JournalError: the folder is not a run, nothing is committed yet, or the adapter is not what was published.
    """
    check_run(run)
    if not (run / "adapter").is_dir():
        raise JournalError(f"{run} has no adapter yet; give the folder of a run, as printed by `run: PATH`")
    if not (run / "test.toml").is_file():
        raise JournalError(
            f"{run} has no test.toml, which names base, task and labels (a deployment's server has none); "
            "write a node's settings file there, with the test rows as its data"
        )
    node = read_node(run / "test.toml")
    base = load_node_base(node)
    check_published(run)
    stored = read_peft_folder(run / "adapter")
    return Trained(node, base, Adapter({**stored.adapter, **_head(base, stored.saved)}))


def load_test_rows(run: Path) -> tuple[Node, Examples]:
    """Load the run's test rows, and the node settings in `test.toml` that describe them.

    Raises:
        DataError: the run has no test rows.
    """
    node = read_node(run / "test.toml")
    file = Path(node.data.path)
    return node, read_examples(node, read_rows(file), file)


def _head(base: BaseModel, saved: Mapping[str, Array]) -> dict[str, Factors]:
    """Return the finished head's difference from its start as exact factors: the identity and the difference."""
    head = {}
    for module in base.head:
        weight = saved[f"{module.name}.weight"]
        difference = weight - initial_weight(module, (weight.shape[0], weight.shape[1]))
        head[module.name] = Factors(difference, np.eye(len(weight), dtype=np.float32))
    return head


def evaluate_run(run: Path) -> Score:
    """Return the loss and accuracy on the run's test rows.

    Raises:
        JournalError, DataError: the folder is not a run, or it has no test rows.
    """
    trained = load_run(run)
    skeleton, lora = trained.attach()
    return evaluate(skeleton, lora, trained.adapter, load_test_rows(run)[1])


def export(run: Path, out: Path, rank: int | None) -> tuple[Adapter, Adapter]:
    """Write the update as a PEFT folder, with rank at most `rank`; return these modules, and the head, kept whole.

    Raises:
        ConfigError: the rank is below 1, or `out` exists.
    """
    if rank is not None and rank < 1:
        raise ConfigError(f"--rank {rank} is below 1; give the largest rank that a module may keep")
    _check_new(out)
    trained = load_run(run)
    names = {module.name for module in trained.base.head}
    head = Adapter({n: f for n, f in trained.adapter.items() if n in names})
    cut = Adapter({n: lowrank.truncate(f, rank).astype("f4") for n, f in trained.adapter.items() if n not in names})
    embeddings = [n for n in cut if isinstance(trained.base.model.get_submodule(n), torch.nn.Embedding)]
    folder, task = str(trained.base.folder), trained.node.data.task
    write_peft_folder(out, Adapter({**cut, **head}), trained.base.head, folder, task, embeddings)
    return cut, head


def merge_into_base(run: Path, out: Path) -> float:
    """Write base and update as one plain Hugging Face folder; return the largest difference between the logits.

    Raises:
        ConfigError: `out` exists.
        ModelError: a target's weight is quantised or tied.
    """
    _check_new(out)
    trained = load_run(run)
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(trained.adapter, skeleton.device)]
    expected = _probe(run, skeleton)
    lora.lanes = ()
    model = trained.base.skeleton().model  # A new one: the attached skeleton is cached for other callers.
    merge(model, trained.adapter)
    config = AutoConfig.from_pretrained(trained.base.folder, local_files_only=True, trust_remote_code=False)
    for key in ("id2label", "label2id", "pad_token_id"):
        setattr(config, key, getattr(model.config, key))
    config.architectures = [type(model).__name__]
    model.config = config  # The base's own config, with the dropout that loading set to 0.
    model.save_pretrained(out)
    trained.base.tokenizer.save_pretrained(out)
    return float((_probe(run, _reload(trained, out)) - expected).abs().max())


def generate(run: Path, prompt: str, tokens: int) -> str:
    """Continue the prompt with the trained model, greedily, up to this many tokens.

    Raises:
        ConfigError: the run's model is no causal language model, or the prompt is empty or too long.
    """
    trained = load_run(run)
    task = trained.node.data.task
    if not TASKS[task].causal:
        known = " or ".join(f'"{name}"' for name, each in TASKS.items() if each.causal)
        raise ConfigError(f"{run} was trained for {task}; generate needs [data] task = {known}")
    ids = trained.base.tokenizer(prompt)["input_ids"]
    _check_room(len(ids), tokens, trained.base.model.config)
    return continue_text(trained, trained.adapter, ids, tokens)


@torch.no_grad()
def continue_text(trained: Trained, adapter: Adapter, ids: Sequence[int], tokens: int) -> str:
    """Continue these token ids with the base plus this adapter, greedily, up to this many tokens."""
    skeleton, lora = trained.attach()
    lora.lanes = [frozen_lane(adapter, skeleton.device)]
    given, tokenizer = torch.tensor([list(ids)], device=skeleton.device), trained.base.tokenizer
    output = skeleton.model.generate(
        given,
        attention_mask=torch.ones_like(given),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    lora.lanes = ()
    return str(tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))


def _check_room(given: int, tokens: int, config: PreTrainedConfig) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if not given:
        raise ConfigError("--prompt is empty; give the text to continue")
    if positions and given + tokens > positions:
        raise ConfigError(
            f"--prompt has {given} tokens, which with --tokens {tokens} exceed the model's {positions} positions; "
            "shorten one of them"
        )


@torch.no_grad()
def _probe(run: Path, base: BaseModel) -> Tensor:
    """Return the logits of the first test rows, or of `SENTENCE` if the run has none."""
    if Path(read_node(run / "test.toml").data.path).stat().st_size:
        rows = load_test_rows(run)[1]
        batches = eval_batches(subset(rows, range(min(PROBE, len(rows)))), PROBE)
    else:
        ids = torch.tensor([base.tokenizer(SENTENCE)["input_ids"]])
        batches = iter([Batch(ids, torch.ones_like(ids), ids)])
    return torch.cat([forward(base, batch.to(base.device)).float().flatten() for batch in batches])


def _reload(trained: Trained, folder: Path) -> BaseModel:
    base = trained.base
    model = AUTO_MODELS[TASKS[base.task].peft].from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, dtype=base.model.dtype
    )
    return BaseModel(folder, model.eval().to(base.device), base.tokenizer, base.task, ())


def _check_new(out: Path) -> None:
    if out.exists():
        raise ConfigError(f"{out} already exists; give the path of a new folder")
