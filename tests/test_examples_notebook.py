"""The example notebooks run from the first cell to the last, and are committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
#: Notebook -> words that it prints.
SAID = {
    "one-deployment": ("output_tok_s", "Take 1 x RTX 4090"),
    "size-a-service": ("slo_chance", "Take ", "interpolated"),
    "my-device-and-my-model": ("Sweep of 36 rows", "calibrated", "attention_decode"),
    "calibrate-and-choose-the-next-run": ("factor", "front_end", "gain_usd_per_month", "per month on average"),
    "power-is-the-limit": ("power_cap_w", "limit 400 W", "energy_j_per_output_token"),
}
#: Notebook -> charts that it shows at least, 3 unless stated.
CHARTS = {"one-deployment": 0, "calibrate-and-choose-the-next-run": 1}


def test_there_is_one() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_outputs_are_committed(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert all(not c.get("outputs") and c.get("execution_count") is None for c in cells if c.cell_type == "code")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:zmq.*", "ignore::DeprecationWarning:jupyter_client.*")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=180, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}
    ).execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.get("outputs", [])]
    printed = "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)
    assert not [word for word in SAID[path.stem] if word not in printed]
    charts = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(charts) >= CHARTS.get(path.stem, 3)
