"""The commands on a finished run: its folder at the operator, at a node, or of a simulation."""

import json
from pathlib import Path
from typing import Annotated

import typer

from client.exporting.request import MAX_GAP, Form, MergedDtype, Request
from common.errors import printable
from common.log_format import LogFormat, log_to_stderr

app = typer.Typer()

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, as printed by its last line.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="New folder to write.")]


@app.command()
def evaluate(
    run: Run,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="More scores, as bleu,rouge: bleu, nist, rouge and meteor of the texts that a language model writes "
            "after the test rows' prompts, each against all completions of its prompt; matthews of "
            "labels; pearson and spearman of numbers.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --metrics: most prompts to write a text for; by default all.")
    ] = None,
) -> None:
    """Evaluate a run's global update on its test rows, and print one JSON line."""
    if limit is not None and metrics is None:
        raise typer.BadParameter("--limit is of the texts that --metrics scores; add --metrics")
    from client.finished.run import evaluate_run
    from client.scoring.score import score_run

    scores = {} if metrics is None else score_run(run, metrics, limit)
    result = evaluate_run(run)
    measures = {"test_accuracy": None} | {f"test_{key}": value for key, value in result.measures.items()}
    print(json.dumps({"test_loss": result.loss, **measures, "count": result.count} | scores))


_Dtype = Annotated[
    MergedDtype, typer.Option(help="Numbers of a merged model; auto is the type that the base's checkpoint has.")
]

_MaxGap = Annotated[
    float,
    typer.Option(
        help="Largest mean difference of a merged model's logits to base and update, in standard deviations of the "
        "logits; above it nothing is written."
    ),
]


@app.command()
def export(
    run: Run,
    out: Out,
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="peft: an adapter folder, for PEFT and vLLM. gguf: an adapter file, for llama.cpp and Ollama. "
            "merged: base and update as one model, for everything that reads Hugging Face folders.",
        ),
    ] = "peft",
    rank: Annotated[
        int | None,
        typer.Option(
            help="Rank of each module of an adapter except the head, and print what a smaller one leaves out; by "
            "default the largest of the run's modules, which leaves out nothing."
        ),
    ] = None,
    base_name: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Name of the base model, where others find it; by default the run's."),
    ] = None,
    dtype: _Dtype = "auto",
    max_gap: _MaxGap = MAX_GAP,
    push: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Then upload the folder to this model of a hub; a new one is private."),
    ] = None,
) -> None:
    """Write a run's global update for other programs, with a model card, README.md.

    All modules of an adapter have one rank and a scale of 1, so that PEFT, vLLM, llama.cpp and Ollama compute the same.
    """
    from client.exporting.export import export as export_run

    request = Request(form=form, rank=rank, base_name=base_name, dtype=dtype, max_gap=max_gap, push=push)
    print("\n".join(map(printable, export_run(run, out, request))))


@app.command()
def merge(run: Run, out: Out, dtype: _Dtype = "auto", max_gap: _MaxGap = MAX_GAP) -> None:
    """Add a run's global update to its base and write a plain Hugging Face folder, as `export --format merged`."""
    from client.exporting.export import export as export_run

    print("\n".join(map(printable, export_run(run, out, Request(form="merged", dtype=dtype, max_gap=max_gap)))))


@app.command()
def generate(
    run: Run,
    prompt: Annotated[
        str, typer.Option(help="Text to continue; for a run that has learned chats or instructions, what a user asks.")
    ],
    tokens: Annotated[int, typer.Option(min=1, help="Largest number of tokens to write.")] = 64,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the bare prompt, without a template.")] = False,
) -> None:
    """Continue a prompt with a run's language model."""
    from client.finished.text import generate as generate_text

    print(printable(generate_text(run, prompt, tokens, raw), "\n\t"))


@app.command()
def serve(
    run: Run,
    adapters: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="NAME=DIR",
            help="Serve another adapter of the same base too: a PEFT folder, or a run's. May be repeated.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; other than loopback, it needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for any free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="FEDLORA_API_KEY",
            help="Serve only those who send this key. Others on the machine see an option; the variable they do not.",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="Form of the log on stderr; json is one object a line.")
    ] = LogFormat.TEXT,
) -> None:
    """Serve a run's model over HTTP, as OpenAI's interface: completions, chats, or labels for a classifier.

    The run answers under its folder's name, the bare base under its own; docs/serving.md has the requests.
    """
    from client.serving.http.launch import serve as serve_run

    log_to_stderr(log_format)
    serve_run(run, adapters or [], host, port, api_key)
