"""Settings as frozen dataclasses: the tables and keys of a recipe, of a node's file and of a server's file."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from common.settings.marks import OPERATIONAL, AddedLater
from common.settings.tasks import RowSettings
from common.settings.types import _STRICT, Budget, Count, Dtype, Head, Names, Positive, Share, Wire


@dataclass(frozen=True, config=_STRICT)
class Base:
    """[base] The frozen base model.

    Args:
        path: a folder in Hugging Face's format, with safetensors; a `.gguf` file; `package:NAME/PATH` for one of these
            in an installed package; or `tiny:KIND`, random weights, with KIND `bert`, `roberta`, `deberta`,
            `gpt2`, `llama`, `t5` or `bart`.
        dtype: type of the base model's numbers in memory; `auto` is that of its checkpoint, and float32 on a device
            without units for it. `nf4` and `int8` hold linear layers in 4 or 8 bits, and need the extra `quantised`.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:NUMBER`, or `mps`, an Apple GPU.
        name: of the base model in the published adapter, as `ORG/NAME` on a hub; the last part of `path` if not set.
        head: what becomes of a classification head that the base model has: `keep`, with its outputs in their order
            where its classes are the labels of the rows; `new`, replaced by a new one; or `listed`, with its outputs
            taken for the labels in the order of the labels, whatever they are called.
    """

    path: str
    dtype: Dtype = "float32"
    device: str = "auto"
    head: Annotated[Head, AddedLater(before="listed", alike=("keep",))] = "keep"
    name: Annotated[str | None, OPERATIONAL] = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StartSettings:
    """The adapter that a run begins with.

    Args:
        adapter: folder of a PEFT adapter, LoRA of any ranks and scales, at whose update the run begins; only the server
            reads it. A finished classification head in it is continued. A run that has begun needs it no more.
        adapter_hash: SHA-256 of the adapter's content, wherever its folder is; another adapter is refused. If not set,
            that of `adapter`, which the run keeps.
    """

    adapter: Annotated[str | None, OPERATIONAL] = None
    adapter_hash: Annotated[str | None, AddedLater(before=None)] = None


@dataclass(frozen=True, config=_STRICT)
class RecipeBase(Base, StartSettings):
    """[base] The frozen base model, and the adapter that the run begins with."""


@dataclass(frozen=True, config=_STRICT)
class Data(RowSettings):
    """[data] The source of the rows, `corpus` or `path`, their task and columns, and the size of the test set.

    Args:
        corpus: `library-docs`, `library-docs-lm`, `toy` or `toy-preference`, which need no download; or `banking77`,
            `medquad` or `polarity`, from the folder that the environment variable FEDLORA_DATA names. So are the LoRA
            paper's, in their public files: `glue-cola`, `glue-sst2`, `glue-mrpc`, `glue-qqp`, `glue-stsb`, `glue-mnli`,
            `glue-mnli-mismatched`, `glue-qnli`, `glue-rte`, `glue-wnli`, `e2e`, `e2e-dev` (trained on the development
            set), `webnlg`, `dart`, `wikisql` and `samsum`.
        path: a file of rows that ends in `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.parquet` or `.arrow`, those of
            text also packed, in `.gz`, `.bz2`, `.xz` or `.zst`; or a folder of such files, or FOLDER/SPLIT.
        test_rows: most rows that are held out to test the global update, evenly by class, and at most half of a class.
            The LoRA paper's data sets have test rows of their own, of which these are drawn, all of a prompt together.
    """

    corpus: str | None = None
    path: str | None = None
    test_rows: Annotated[int, Field(ge=0)] = 500

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if (self.corpus is None) == (self.path is None):
            raise ValueError("set exactly one of [data] corpus and [data] path")
        return self


@dataclass(frozen=True, config=_STRICT)
class Clients:
    """[clients] The partition of the rows into clients, and each client's rank.

    Args:
        count: number of clients; needed unless `partition` is `column`.
        ranks: rank of each client, in order; repeated if there are more clients.
        partition: `iid` (at random, in equal parts), `dirichlet` (each class in proportions drawn from Dir(beta);
            needs classes), or `column` (a client for each value of `column`).
        beta: concentration of the Dirichlet distribution; the smaller, the more the clients' classes differ.
        column: column that names the owner of a row.
        min_rows: fewest training rows of a client.
    """

    count: Count | None = None
    ranks: Annotated[tuple[Count, ...], Field(min_length=1)] = (8,)
    partition: str = "dirichlet"
    beta: Positive = 0.5
    column: str | None = None
    min_rows: Count = 8


@dataclass(frozen=True, config=_STRICT)
class LoraSettings:
    """[lora] The adapted modules and the scaling of their factors.

    Args:
        targets: `query-value` (the query and value projections), `all-linear` (all linear layers but the output),
            a list of module names or ends of names, or one regular expression for whole names. A new classification
            head is always adapted.
        alpha: the scaling is alpha / rank; `rank` makes it 1 for every client.
        dropout: share of a module's inputs that its A does not see in training.
        head: how a new classification head begins: `trained`, at zero; or in closed form, from sums of features by
            class over all clients: `means`, of the class means, or `lda`, linear discriminant analysis, which also
            needs their Gram matrix. One in closed form is made before round 1, and again under the trained update at
            the end, and kept where it is better on the rows that the clients hold out. Needs `increments`, `fedlin` or
            `fedsgd`, and of each node `[policy] class_sums = true`.
        budget: most trained parameters of all targets together, as a share of the base model's, a number, or the bytes
            of an adapter. Before round 1 each node then sends one number a target, the clipped energy of its gradient,
            and the server gives each target a rank of its own, from 0 to the largest of a node; `fedlora plan` shows
            it. Without a budget each target has the node's rank. A new classification head is not counted.
    """

    targets: str | Names = "query-value"
    alpha: Literal["rank"] | Positive = "rank"
    dropout: Share = 0.0
    head: Annotated[Literal["trained", "means", "lda"], AddedLater(before="trained")] = "trained"
    budget: Annotated[Budget | None, AddedLater(before=None)] = None

    def scaling(self, rank: int) -> float:
        """Return s = alpha / r; 1 for the default `alpha = "rank"`."""
        return 1.0 if isinstance(self.alpha, str) else self.alpha / rank


@dataclass(frozen=True, config=_STRICT)
class Steps:
    """[train] The training of a client in a round, with AdamW.

    Args:
        steps: optimizer steps of a client in a round; `fedlin` asks for a gradient of as many batches before.
        batch: rows in one forward pass.
        lr: highest learning rate.
        schedule: course of the learning rate over the steps of all rounds: `constant`, or down to 0 as `linear` or
            `cosine`.
        warmup: steps at the start of each round in which the learning rate rises to its scheduled value.
        clip: largest norm of a step's gradient; 0 switches clipping off.
        accumulate: forward passes, each of `batch` rows, in one step.
        checkpointing: compute activations again in the backward pass: less memory, more time.
    """

    steps: Count = 10
    batch: Count = 16
    lr: Positive = 1e-3
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 2
    clip: Annotated[float, Field(ge=0)] = 1.0
    accumulate: Count = 1
    checkpointing: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Train(Steps):
    """[train] The number of rounds, and the training of a client in each, with AdamW.

    Args:
        rounds: rounds of the run.
    """

    rounds: Count


KeepUpdates = Literal["all", "none"] | Count
"""The rounds, counted from the last, whose replies a run keeps."""


@dataclass(frozen=True, config=_STRICT)
class Rule:
    """[server] The rule of aggregation and its settings.

    Args:
        algorithm: `increments`, `fedsgd`, `fedlin`, `fedit` or `hetlora`; `fedlora algorithms` describes them.
        mode: what clients train under `increments`, `fedsgd` and `fedlin`: `both`, A and B; or `b`, B alone under an A
            that all share, which `fedlin` needs.
        a: the A that clients start a round from under `increments` and `fedlin`: `warm` (the directions in which they
            just moved), `fresh` (orthonormal, at random) or `gaussian`.
        rank_global: rank of the frozen global update that clients receive under `increments`, `fedsgd` and `fedlin`;
            four times the largest rank of a client if not set, and under `fedsgd` four times `rank_shared`.
        rank_kept: rank of the sum that the server keeps under `increments`, `fedsgd` and `fedlin`; four times
            `rank_global` if not set.
        rank_shared: rank of the factors that all clients share under `fedsgd`; the largest rank of a client if not set.
        optimizer: of the server under `fedsgd`, which steps along the summed gradient: `adam` or `sgd`; `adam` if not
            set.
        betas: decay of Adam's two moments under `fedsgd`; 0.9 and 0.99 if not set.
        hold: rounds after which clients get new directions, or `never`. Under `increments` and `fedlin`, in mode `b`
            with `a = "warm"`, half of A's rows are then drawn anew, and `auto` is 1. Under `fedsgd`, which holds A
            until then, B A is folded into the frozen global update and all of A is drawn anew; `auto` is `never`.
        weights: what a client's share of the sum is proportional to: the `examples` or `tokens` that it trained on in
            the round; the `rows` that it announced, or their tokens with loss for a language model; `norm`, the norm of
            its update; or `uniform`, nothing. If not set, `rows` under `fedsgd`, and `examples` under the others;
            `hetlora` always takes `norm`.
        max_share: largest share of one client in a sum; `auto` is 2 / K of K updates for `norm`, and 1 for a rule that
            counts. It is at least 1 / K; what it takes away is spread over the others.
        norm_bound: largest norm of a client's update, which is scaled down to it: `auto` is what the steps of the round
            allow, and with four updates or more 8 times their lower median, counting earlier rounds; or a number; or 0
            for none.
        proximal: mu of FedProx's term (mu / 2) ||w - w_0||^2 in every client's loss; 0 for none.
        rank_change: rank by which the global update grows in a round under `increments` and `fedlin`, and after `hold`
            rounds under `fedsgd`, so that a client is sent this change instead of the whole; what the change leaves out
            comes in later rounds. Where it would grow past `rank_global`, a new whole of half that rank is sent. If not
            set, a new whole is sent each time.
        wire: type of the numbers that cross a link, both ways: `float32`, `bfloat16`, or `int8` with a scale for each
            row of an A and column of a B. Numbers are rounded without bias, and everybody goes on from what is sent.
        codec: the form of factors on the way to a client: `by-change`, which sends what the client does not hold yet;
            `by-hash`, the whole or nothing; or `plain`, always the whole.
        evaluate_every: rounds from one evaluation of the global update to the next; round 0 and the last are always
            evaluated. `auto` spends at most 15 % of the run on it, where a row that is trained on counts one and a
            half times.
        keep_updates: the last rounds whose updates are kept in the run's folder, with the state before each, so that
            `fedlora verify` recomputes them and `fedlora server --from-round` can go back to them: a number of rounds,
            `all`, or `none`. Updates can reveal rows that nodes trained on, and each round needs the disk space of its
            updates and of one state.
    """

    algorithm: str = "increments"
    mode: Literal["both", "b"] = "both"
    a: Literal["warm", "fresh", "gaussian"] = "warm"
    rank_global: Count | None = None
    rank_kept: Count | None = None
    rank_shared: Annotated[Count | None, AddedLater(before=None)] = None
    optimizer: Annotated[Literal["adam", "sgd"] | None, AddedLater(before=None)] = None
    betas: Annotated[tuple[Share, Share] | None, AddedLater(before=None)] = None
    hold: Annotated[Literal["auto", "never"] | Count, AddedLater(before="never")] = "auto"
    weights: str | None = None
    max_share: Annotated[Literal["auto"] | Annotated[float, Field(gt=0, le=1)], AddedLater(before=1.0)] = "auto"
    norm_bound: Annotated[Literal["auto"] | Annotated[float, Field(ge=0)], AddedLater(before=0.0)] = "auto"
    proximal: Annotated[float, Field(ge=0), AddedLater(before=0.0)] = 0.0
    rank_change: Annotated[Count | None, AddedLater(before=None)] = None
    wire: Annotated[Wire, AddedLater(before="float32")] = "float32"
    codec: Annotated[str, OPERATIONAL] = "by-change"
    evaluate_every: Annotated[Literal["auto"] | Count, OPERATIONAL] = "auto"
    keep_updates: Annotated[KeepUpdates, OPERATIONAL] = "none"


@dataclass(frozen=True, config=_STRICT)
class Server(Rule):
    """[server] The rule of aggregation, its settings, and the sampling of clients.

    Args:
        cohort: clients that are sampled a round; all if not set.
    """

    cohort: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Recipe:
    """A simulation, described in full by one file. Paths are relative to the file.

    Args:
        seed: keys every random stream.
        threads: threads of PyTorch in each worker.
        workers: clients that train at the same time.
    """

    base: RecipeBase
    data: Data
    clients: Clients
    train: Train
    lora: LoraSettings = LoraSettings()
    server: Server = Server()
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Count = 1
    workers: Annotated[Count, OPERATIONAL] = 2
