"""The command `fedlora`: each subcommand calls the package that implements it."""

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from client.cli import Run
from client.cli import app as finished
from common.disk_errors import remedy
from common.errors import FedloraError, printable
from common.identity.cli import app as keys
from common.log_format import LogFormat, last_line, log_to_stderr
from simulations.starting.cli import app as starting
from simulations.studies.cli import app as studies

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
app.add_typer(starting)
app.add_typer(studies)
app.add_typer(keys, name="keys")


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
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="After a run, train alone too: on the node's own rows, as much as it did for the run. report.html in "
            "the run's folder then shows what taking part was worth. Nothing is sent; Ctrl-C ends it.",
        ),
    ] = False,
) -> None:
    """Run a node: it connects to the server, trains on its own rows, and ends with the run."""
    path = _own_file(file, example, "client", log_format)
    if path:
        _refuse_together(check, bool(describe) or targets != "query-value", fail_fast, local)
    if path and check:
        from client.check import check_node

        print("\n".join(map(printable, check_node(path, describe, targets))))
    elif path:
        from client.launch import run_node

        run_node(path, fail_fast, local)


def _refuse_together(check: bool, of_check: bool, fail_fast: bool, local: bool) -> None:
    """Refuse options of a node that do not go together."""
    if of_check and not check:
        raise typer.BadParameter("--describe and --targets need --check, which needs no server")
    if check and fail_fast:
        raise typer.BadParameter("--fail-fast is for a node that connects; --check needs no server")
    if check and local:
        raise typer.BadParameter("--local trains after a run that the node was in; --check is for before one")


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
    page: Annotated[
        bool,
        typer.Option("--page", help="Serve it as a web page with the run's report, on this machine alone."),
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="With --page: port on 127.0.0.1; by default a free one.")
    ] = None,
) -> None:
    """Show the state of a server: round, nodes, bytes, rejections."""
    if page and watch:
        raise typer.BadParameter("--page refreshes itself; leave out --watch")
    if port is not None and not page:
        raise typer.BadParameter("--port is of the page; add --page")
    if page:
        from server.monitoring.live_page import serve_page

        return serve_page(file, port or 0)
    from server.monitoring.status_view import show_status

    return show_status(file, watch)


@app.command()
def verify(run: Run) -> None:
    """Check a run's log, checkpoints and adapter, and recompute the rounds whose updates it keeps.

    Of a node's folder: its adapter, receipts, and the rounds that the server told it.
    """
    from client.results.folder import NodeFolder

    if NodeFolder.is_at(run):
        from client.results.receipts import verify_saved

        lines = verify_saved(run)
    else:
        from server.verify import verify_run

        lines = verify_run(run)
    print("\n".join(map(printable, lines)))


app.add_typer(finished)


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
