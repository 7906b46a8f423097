"""Exact memory of tensors; the allocator of the C library would add holes that differ from run to run."""

import json
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.profiler import profile


def tensor_peak(work: Callable[[], object]) -> int:
    """Return the most bytes that tensors made during work take at once, as PyTorch's allocator counts them."""
    with profile(profile_memory=True) as recorded:
        work()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(file))
        events = json.loads(file.read_bytes())["traceEvents"]
    changes = sorted((event["ts"], int(event["args"]["Bytes"])) for event in events if event["name"] == "[memory]")
    return max(accumulate((size for _, size in changes), initial=0))
