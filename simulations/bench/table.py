"""The page that a run of the benches writes: command, date, machine, versions, and a table."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version

from simulations.bench.measure import Comparison

_PACKAGES = ("torch", "flwr", "ray", "peft", "transformers", "numpy")
_HEAD = """# Benches

Ours against a peer: medians of runs in turn on one idle machine. A ratio is the peer's figure divided by ours, or ours
divided by the peer's where its bound is ≤. Each bench first checks that both sides come to the same result; if they do
not, it stops. The top of each file here states exactly what it measures.

    {command}

{facts}

"""


def page(comparisons: Sequence[Comparison], command: str) -> str:
    """Return Markdown: the command, date, versions, and one row per comparison."""
    rows = ["| figure | ours | peer | | ratio | bound | |", "| --- | ---: | ---: | --- | ---: | --- | --- |"]
    rows += [_row(comparison) for comparison in comparisons]
    gates = dict.fromkeys(comparison.gate for comparison in comparisons if comparison.gate)
    text = "\n".join([*rows, "", "Checked in this run:", "", *(f"- {gate}" for gate in gates), ""])
    return _HEAD.format(command=command, facts=_facts()) + text


def _row(comparison: Comparison) -> str:
    ours, theirs = (_number(figure, comparison.unit) for figure in (comparison.ours, comparison.theirs))
    bound = f"≥ {comparison.at_least}" if comparison.at_least is not None else ""
    bound = f"≤ {comparison.at_most}" if comparison.at_most is not None else bound
    verdict = ("holds" if comparison.holds else "**missed**") if bound else ""
    return (
        f"| {comparison.figure} | {ours} | {theirs} | {comparison.peer} "
        f"| {_significant(comparison.ratio)} | {bound} | {verdict} |"
    )


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{_significant(value / 2**20)} MiB"
    return f"{value:,.0f}" if unit == "numbers" else f"{_significant(value)} {unit}"


def _significant(value: float) -> str:
    """Return three significant digits, or all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _facts() -> str:
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{date.today():%d %B %Y}. {system}; {packages}."


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
