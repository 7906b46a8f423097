"""Made-up rounds in the shape of `metrics.jsonl`, for tests of what reads it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RANKS = (2, 4, 8, 16)


def client(number: int, round_number: int, **changes: Any) -> dict[str, Any]:
    """One client's part of a round; its loss falls with the round."""
    trained = round_number > 0
    report = {
        "name": f"client-{number:02d}",
        "rank": RANKS[number % 4],
        "examples": 160 * trained,
        "tokens": 160 * trained,
        "loss_before": 2.8 - 0.1 * (round_number - 1) if trained else None,
        "loss_after": 2.8 - 0.1 * round_number,
        "bytes_up": 1000 * trained,
        "bytes_down": 3000 * trained,
        "status": "ok",
        "reason": None,
        "rows": 100 + number,
    }
    return report | changes


def record(round_number: int, clients: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """One committed round with these clients; its accuracy rises with the round."""
    trained = round_number > 0
    numbers = {
        "round": round_number,
        "seconds": 10.0,
        "test_loss": 2.7 - 0.1 * round_number,
        "test_accuracy": 0.07 + 0.02 * round_number,
        "aggregation_error": 3e-16 if trained else None,
        "agreement": 0.8 if trained else None,
        "residual": 0.01 * round_number,
        "dropped": 0.0,
        "rank_global": 16 * round_number,
        "bytes_up": sum(c["bytes_up"] for c in clients),
        "bytes_down": sum(c["bytes_down"] for c in clients),
        "clients": list(clients),
    }
    return numbers | changes


def rounds(count: int, clients: int = 4, **changes: Any) -> list[dict[str, Any]]:
    """Round 0 and `count` rounds of training, every one with these changes."""
    return [record(r, [client(c, r) for c in range(clients)], **changes) for r in range(count + 1)]


def write_run(folder: Path, records: Sequence[dict[str, Any]], task: str = "classification") -> Path:
    """Write a run folder with these records and a small `config.toml`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(f'seed = 0\n\n[data]\ntask = "{task}"\n')
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def spectrum(modules: Sequence[str], rank: int = 4) -> dict[str, list[float]]:
    """Falling singular values for each module."""
    return {name: [math.exp(-i) for i in range(rank)] for name in modules}
