"""A made-up service whose figures follow from its settings at once; worker processes of tests load nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def service(shared: Mapping[str, Any], task: tuple[Mapping[str, Any], int]) -> dict[str, float]:
    """Figures of the service. The worker kills itself where the file `deadly` is there, which it removes before."""
    settings, requests = task
    deadly = shared.get("deadly")
    if deadly and Path(deadly).exists():
        Path(deadly).unlink()
        os.kill(os.getpid(), 9)
    time.sleep(float(shared.get("seconds", 0.0)))
    tokens, seqs = float(settings["max_num_batched_tokens"]), float(settings["max_num_seqs"])
    slow = {"round_robin": 1.3, "least_loaded": 1.1, "join_shortest_queue": 1.0}[settings["router"]]
    ttft = slow * (4e5 / tokens + 2e4 / seqs + 30.0 + 100.0 / requests)
    return {"ttft_ms_p99": ttft, "tpot_ms": 5 + tokens / 500 + seqs / 20, "output_tok_s": 10 * seqs, "overload": 0.0}


def die(shared: object, task: int) -> None:
    """Kill this worker process."""
    os.kill(os.getpid(), 9)
