"""`tune` on a real Ray cluster of two nodes; skipped where Ray is not installed (`pip install perfmodel[ray]`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import ray_cluster

pytest.importorskip("ray")
ROOT = Path(__file__).resolve().parents[1]
WORDS = ["tune", "examples/small-4090.toml", "--trials", "16", "--requests", "1000", "--json"]


def started(*more: str) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "cli", *WORDS, *more]
    return subprocess.Popen(words, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_the_command_gets_the_same_trials_from_a_cluster_that_loses_a_worker() -> None:
    with ray_cluster.cluster() as cluster:
        process, killed, end = started("--executor", "ray", "--address", cluster.address), False, time.monotonic() + 120
        while process.poll() is None and not killed and time.monotonic() < end:
            killed = cluster.kill_worker()
        out, err = process.communicate(timeout=300)
    assert killed
    assert process.returncode == 0, err
    alone = started().communicate(timeout=300)[0]
    assert json.loads(out) == json.loads(alone)


def test_a_cluster_that_does_not_answer_is_named() -> None:
    process = started("--executor", "ray", "--address", "127.0.0.1:1")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "--address 127.0.0.1:1: no Ray cluster answers" in " ".join(err.split())
