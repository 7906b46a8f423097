"""The commands of the first steps: check, plan, init and fetch."""

from pathlib import Path
from typing import Annotated

import typer

from common.errors import printable
from common.log_format import LogFormat, log_to_stderr

app = typer.Typer()
init = typer.Typer(
    help="Write a first recipe, node's file or server's file, from the rows and the base model that it is for.\n\n"
    "On a terminal it asks for what it was not told; --yes takes defaults instead. Nothing is ever overwritten.",
    no_args_is_help=True,
)
app.add_typer(init, name="init")


@app.command()
def check(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A recipe or a node's file (.toml), or a file or folder of rows.")
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of a recipe: override a key.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(metavar="PATH", help="Of a file of rows: show its tokens for this base model too.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of a file of rows: the encoding of its text.")] = "utf-8",
    targets: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Of a node: the server's \\[lora] targets, as in TOML.")
    ] = None,
) -> None:
    """Read all that a run would read, train nothing, and say what to change.

    Shows base, counts, lengths and what max_length cuts, labels by client, and rows as the model sees them. What a run
    would refuse is refused, with status 2.
    """
    from simulations.starting.check import check as check_file

    log_to_stderr(LogFormat.TEXT)
    check_file(file, settings or [], base, encoding, targets)


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(metavar="RECIPE", help="TOML file, see simulations/recipes/.")],
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Of trained parameters: 0.1% of the base's, 50000, or the bytes of an adapter, '300 kB'; the recipe's "
            "if not given.",
        ),
    ] = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="VALUE", help="Modules that may be adapted, as \\[lora] targets; all-linear if none are given."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. clients.ranks=[16].")
    ] = None,
) -> None:
    """Place ranks under a budget: which modules the clients of a recipe would adapt, and at which ranks.

    Each client computes one number a module, the clipped energy of its gradient on its first batches; the sums decide.
    A run with the same \\[lora] budget agrees on the same ranks as it starts. Trains and writes nothing.
    """
    from simulations.starting.plan import plan_recipe

    log_to_stderr(LogFormat.TEXT)
    plan_recipe(file, budget, targets, settings or [])


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a model on the Hugging Face hub, as ORG/NAME.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="New folder; NAME in the current one if not given.")
    ] = None,
    dataset: Annotated[bool, typer.Option("--dataset", help="NAME is of a data set.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; the newest if not given.")] = None,
) -> None:
    """Fetch a model or a data set of the Hugging Face hub to a folder, for which it goes online.

    Of a model: safetensors, tokenizer and configuration, no pickles and no code. The folder appears when it is whole;
    after an interruption, the same command goes on. HF_TOKEN and HF_ENDPOINT count.
    """
    from client.hub.fetch import fetch as fetch_files

    _tell(fetch_files(name, folder, "dataset" if dataset else "model", revision))


_File = Annotated[Path | None, typer.Argument(metavar="FILE", help="New file to write.")]
_Data = Annotated[str | None, typer.Option(metavar="PATH", help="File or folder of rows.")]
_Base = Annotated[str | None, typer.Option(metavar="PATH", help="Base model: its folder.")]
_Label = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of the label; found if there is one.")]
_Encoding = Annotated[str, typer.Option(help="Encoding of the rows' text.")]
_Rounds = Annotated[int | None, typer.Option(min=1, help="Rounds of the run; 20 if not given.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing: take the default of what has one.")]


@init.command()
def recipe(
    file: _File = None,
    data: _Data = None,
    base: _Base = None,
    label: _Label = None,
    owner: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column that names the client of each row.")
    ] = None,
    clients: Annotated[
        int | None, typer.Option(min=1, help="Number of clients that the rows are dealt out to, without such a column.")
    ] = None,
    rounds: _Rounds = None,
    encoding: _Encoding = "utf-8",
    yes: _Yes = False,
) -> None:
    """Write a recipe, a simulation on this machine; FILE is DATA.toml if not given."""
    from simulations.starting.init import Sources, init_recipe
    from simulations.starting.questions import Questions

    log_to_stderr(LogFormat.TEXT)
    sources = Sources(data, base, label, encoding)
    _tell(init_recipe(file, sources, owner, clients, rounds, Questions.of(yes)))


@init.command()
def node(
    file: _File = None,
    data: _Data = None,
    base: _Base = None,
    label: _Label = None,
    name: Annotated[str | None, typer.Option(help="Name of the node, as in its keys.")] = None,
    server: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Address of the server.")] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank that it trains; 8 if not given.")] = None,
    encoding: _Encoding = "utf-8",
    yes: _Yes = False,
) -> None:
    """Write a node's file for a deployment; FILE is client.toml if not given."""
    from simulations.starting.init import Sources, init_node
    from simulations.starting.questions import Questions

    log_to_stderr(LogFormat.TEXT)
    sources = Sources(data, base, label, encoding)
    _tell(init_node(file, sources, name, server, rank, Questions.of(yes)))


@init.command()
def server(
    file: _File = None,
    project: Annotated[str | None, typer.Option(help="Name of the project, as in its keys.")] = None,
    run: Annotated[str | None, typer.Option(help="Name of the run; first if not given.")] = None,
    rounds: _Rounds = None,
    yes: _Yes = False,
) -> None:
    """Write a server's file for a deployment; FILE is server.toml if not given."""
    from simulations.starting.init import init_server
    from simulations.starting.questions import Questions

    _tell(init_server(file, project, run, rounds, Questions.of(yes)))


def _tell(lines: list[str]) -> None:
    print("\n".join(map(printable, lines)))
