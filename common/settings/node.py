"""A node's settings file, with its owner's policy for the requests of a server."""

from pydantic.dataclasses import dataclass

from common.settings.types import _STRICT, AddressIfAny, Count, Dtype, Name, Names, Positive, Task


@dataclass(frozen=True, config=_STRICT)
class Policy:
    """[policy] Limits on the requests of a server. A key that is not set allows anything.

    Args:
        base: fingerprint of the base model, tokenizer, targets and task that the node trains on.
        targets: modules that may be trained, by name or by the end of it: "q_proj", "layers.0.q_proj".
        max_rank: largest rank to train.
        max_steps: most optimizer steps in one round.
        max_rounds: most rounds of a run; also most trainings in the life of the node's process, since an abandoned
            round costs as much as any other, and so does each phase of one.
        max_phases: most phases (exchanges) of one round.
        terms: names of the terms that may be added to the gradient; an empty list allows none.
        min_lr: lowest learning rate of a step, after warm-up and schedule are applied.
        max_lr: highest learning rate of a step.
        min_cohort: fewest nodes in a round, this one included. The number is what the server states.
        min_seconds: least time between the starts of two trainings, in seconds.
        max_bytes: most memory for factors, their gradients and optimizer state, in bytes.
    """

    base: str | None = None
    targets: Names | None = None
    max_rank: Count | None = None
    max_steps: Count | None = None
    max_rounds: Count | None = None
    max_phases: Count | None = None
    terms: tuple[str, ...] | None = None
    min_lr: Positive | None = None
    max_lr: Positive | None = None
    min_cohort: Count | None = None
    min_seconds: Positive | None = None
    max_bytes: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Node:
    """A node's settings file: its data, base, device and rank. Paths are relative to the file.

    Args:
        name: name of the node, the same as in its keys.
        rank: rank of the factors that the node trains.
        base: folder of the base model in Hugging Face's format, with safetensors, or `package:NAME/FOLDER` in an
            installed package; never written.
        data: file of the node's rows: `.jsonl`, `.ndjson`, `.csv`, `.tsv` or `.parquet`; it never leaves the machine.
        task: `classification` (columns `text` and `label`), or `causal-lm` (the first that the rows have: `messages`;
            `prompt` and `completion`; `text`).
        labels: all classes, in one order on all nodes; for classification.
        text: column of the text.
        prompt: column of the prompt, which is not learned.
        completion: column of the text that is learned after a prompt.
        messages: column of a chat, a list of objects with `role` and `content`; the assistant's words are learned.
        label: column of the class.
        max_length: most tokens of a row; what is longer is cut.
        dtype: type of the base model's numbers in memory.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:NUMBER`.
        threads: threads of PyTorch, which chooses if this is not set.
        server: address of the project's server; for a deployment.
        keys: folder of the node's keys and invite; for a deployment.
        stay: when a run has ended, wait for the next one.
        policy: limits on the requests of a server.
    """

    name: Name
    rank: Count
    base: str
    data: str
    task: Task = "classification"
    labels: tuple[str, ...] = ()
    text: str = "text"
    prompt: str = "prompt"
    completion: str = "completion"
    messages: str = "messages"
    label: str = "label"
    max_length: Count = 128
    dtype: Dtype = "float32"
    device: str = "auto"
    threads: Count | None = None
    server: AddressIfAny = ""
    keys: str = ""
    stay: bool = False
    policy: Policy = Policy()
