"""Scores of a finished run on its test rows, by the metrics that are asked for."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.finished.run import Trained, load_run, load_test_rows
from client.scoring.predicting import predict
from client.scoring.references import read_asked
from client.scoring.registry import Metric, check_fit, find_metrics, scored_by
from client.scoring.writing import write_texts
from client.scoring.written import Written
from common.errors import ConfigError


def score_run(run: Path, names: str, limit: int | None = None) -> dict[str, float | int | None]:
    """Return the scores of these metrics by name, and `scored`, the number of texts or rows that they are of.

    A metric that lacks something on this machine is None, and standard error says what it lacks.

    Args:
        run: its folder.
        names: of the metrics, as `bleu,rouge`.
        limit: most prompts to write a text for, the first ones; all if None.

    Raises:
        ConfigError: a metric is unknown, lacks its package or does not fit the run's task.
        DataError: the run has no test rows.
    """
    metrics = find_metrics(names)
    trained = load_run(run)
    data = trained.node.data
    check_fit(metrics, data)
    able = _able(metrics)
    if scored_by(data) == "texts":
        measured: tuple[Sequence[Any], ...] = (_write(run, trained, limit) if able else [],)
    elif limit is not None:
        raise ConfigError(f"--limit is for texts that are written, and the run's task is {data.task}; leave it out")
    else:
        measured = predict(trained, load_test_rows(run)[1])
    scores: dict[str, float | int | None] = dict.fromkeys(metrics.keys() - able.keys())
    for name, metric in able.items():
        scores |= metric.scores(name, *measured)
    return scores | {"scored": len(measured[0])}


def _able(metrics: Mapping[str, Metric]) -> Mapping[str, Metric]:
    """Return the metrics that lack nothing, and say on standard error what others lack."""
    obstacles = {name: metric.obstacle() for name, metric in metrics.items()}
    for obstacle in filter(None, obstacles.values()):
        print(obstacle, file=sys.stderr)
    return {name: metric for name, metric in metrics.items() if obstacles[name] is None}


def _write(run: Path, trained: Trained, limit: int | None) -> list[Written]:
    """Write a text after each prompt of the run's test rows."""
    asked = read_asked(run)[:limit]
    texts = write_texts(trained, [each.prompt for each in asked])
    return [Written(text.strip(), each.references) for text, each in zip(texts, asked, strict=True)]
