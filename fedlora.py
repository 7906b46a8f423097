"""The command `fedlora`: each subcommand calls the package that implements it."""

import gc
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from common.disk_errors import remedy
from common.errors import FedloraError, printable
from common.identity.cli import app as keys
from common.log_format import LogFormat, last_line, log_to_stderr

# Before the packages that read them are imported: no hub, no telemetry, no forks of tokenizers; no line of gRPC's
# own for each rejected handshake; NumPy on one thread, as the server's matrices are small and workers use the
# other cores.
for variable, value in {
    "HF_HUB_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GRPC_VERBOSITY": "NONE",
    "OPENBLAS_NUM_THREADS": "1",
}.items():
    os.environ.setdefault(variable, value)

# Importing PyTorch and Transformers makes a million permanent objects; a search for garbage there costs a second.
gc.set_threshold(100_000, 50, 100)

app = typer.Typer(
    help="Fine-tune one language model together, with low-rank matrices of any rank, without sharing data.",
    epilog="In the checkout: docs/configuration.md has every key of the TOML files, docs/deployment.md a deployment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys, name="keys")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, as printed by its last line.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="New folder to write.")]


@app.command()
def simulate(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file, see simulations/recipes/.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. train.rounds=3.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run's folder; by default recipe, date and time.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder in which the run's folder is made.")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume this run after its last committed round.")
    ] = None,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only write the run's folder, and print how to run it with Flower's engine."),
    ] = False,
    pooled: Annotated[
        bool,
        typer.Option("--pooled", help="Then train one client with all rows, in RUN/pooled; the report draws its line."),
    ] = False,
) -> None:
    """Simulate many clients on this machine with one base model, and write a report page."""
    if prepare and pooled:
        raise typer.BadParameter("--pooled trains, and --prepare only writes; resume the run with --pooled afterwards")
    from simulations.simulate import simulate as run_simulation

    print(f"run: {run_simulation(recipe, settings or [], name, out, resume, prepare, pooled)}")


Example = Annotated[bool, typer.Option("--example", help="Print a commented file to start from.")]
Log = Annotated[LogFormat, typer.Option("--log-format", help="Form of the log on stderr; json is one object a line.")]


@app.command()
def server(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The server's own TOML file.")] = None,
    example: Example = False,
    log_format: Log = LogFormat.TEXT,
    from_round: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="First go back to the end of round N, and leave the rounds after it."),
    ] = None,
) -> None:
    """Start the aggregator: nodes connect to it over mutual TLS, and it ends after its last round."""
    from server.launch import serve

    if path := _own_file(file, example, "server", log_format):
        print(f"run: {serve(path, from_round)}")


@app.command()
def client(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The node's own TOML file.")] = None,
    example: Example = False,
    log_format: Log = LogFormat.TEXT,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only read base and rows, and say what a run would refuse; no server needed."),
    ] = False,
    describe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --check: describe the base in this new file, for a server's \\[base]."),
    ] = None,
    targets: Annotated[
        str,
        typer.Option(metavar="VALUE", help="With --check: the server's \\[lora] targets, as in TOML."),
    ] = "query-value",
    fail_fast: Annotated[
        bool,
        typer.Option(
            "--fail-fast",
            help="End with status 2 at the first certificate that cannot be trusted, instead of trying on for a day.",
        ),
    ] = False,
) -> None:
    """Run a node: it connects to the server, trains on its own rows, and ends with the run."""
    path = _own_file(file, example, "client", log_format)
    if path and not check and (describe or targets != "query-value"):
        raise typer.BadParameter("--describe and --targets need --check, which needs no server")
    if path and check and fail_fast:
        raise typer.BadParameter("--fail-fast is for a node that connects; --check needs no server")
    if path and check:
        from client.check import check_node

        print("\n".join(map(printable, check_node(path, describe, targets))))
    elif path:
        from client.launch import run_node

        run_node(path, fail_fast)


def _own_file(file: Path | None, example: bool, role: str, log_format: LogFormat) -> Path | None:
    """Return the file to start from; None if the example was printed instead."""
    if example:
        print(Path(__file__).with_name(role).joinpath("example.toml").read_text(encoding="utf-8"), end="")
        return None
    if file is None:
        raise typer.BadParameter(f"give the {role}'s file; `fedlora {role} --example` prints one to start from")
    log_to_stderr(log_format)
    return file


@app.command()
def status(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The server's own TOML file.")],
    watch: Annotated[bool, typer.Option("--watch", help="Refresh it every two seconds, until Ctrl-C.")] = False,
) -> None:
    """Show the state of a server: round, nodes, bytes, rejections."""
    from server.monitoring.status_view import show_status

    show_status(file, watch)


@app.command()
def evaluate(run: Run) -> None:
    """Evaluate a run's global update on its test rows, and print one JSON line."""
    from client.finished_run import evaluate_run

    result = evaluate_run(run)
    print(json.dumps({"test_loss": result.loss, "test_accuracy": result.accuracy, "count": result.count}))


@app.command()
def export(
    run: Run,
    out: Out,
    rank: Annotated[
        int | None, typer.Option(help="Largest rank of each module except the head; by default the run's.")
    ] = None,
) -> None:
    """Write a run's global update as a PEFT adapter folder."""
    from client.finished_run import export as export_adapter

    adapter, head = export_adapter(run, out, rank)
    whole = f", and the head, {len(head)} in full" if head else ""
    print(f"{len(adapter)} modules, rank {adapter.rank}{whole}: {out}")


@app.command()
def merge(run: Run, out: Out) -> None:
    """Add a run's global update to its base and write a plain Hugging Face folder."""
    from client.finished_run import merge_into_base

    print(f"largest logit gap to base + adapter: {merge_into_base(run, out):.2e}\nmerged: {out}")


@app.command()
def generate(
    run: Run,
    prompt: Annotated[str, typer.Option(help="Text to continue.")],
    tokens: Annotated[int, typer.Option(min=1, help="Largest number of tokens to write.")] = 64,
) -> None:
    """Continue a prompt with a run's language model."""
    from client.finished_run import generate as generate_text

    print(printable(generate_text(run, prompt, tokens), "\n\t"))


@app.command()
def verify(run: Run) -> None:
    """Check a run's log, checkpoints and adapter, and recompute the rounds whose updates it keeps."""
    from server.verify import verify_run

    print("\n".join(map(printable, verify_run(run))))


@app.command()
def algorithms() -> None:
    """List the aggregation rules, each with a line on what it does, what travels, and what node and server keep."""
    from server.algorithms import ALGORITHMS

    for name, algorithm in ALGORITHMS.items():
        print(f"{name:12} {(sys.modules[algorithm.__module__].__doc__ or '').splitlines()[0]}")
        told = {
            "travels": algorithm.travels,
            "node keeps": algorithm.node_keeps,
            "server keeps": algorithm.server_keeps,
        }
        for what, text in told.items():
            print(f"{'':12} {what + ':':13} {text}")


def main() -> None:
    """Run the command; our own errors become one message and an exit status, never a traceback."""
    try:
        app()
    except FedloraError as error:
        print(last_line(printable(f"error: {error}", "\n"), "error", logging.ERROR), file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:
        text = printable(f"error: {error}; {remedy(error)}, then type the command again", "\n")
        print(last_line(text, "error", logging.ERROR), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
