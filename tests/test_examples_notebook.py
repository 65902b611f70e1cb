"""The example notebooks run from the first cell to the last, and are committed without outputs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from plotly.io import renderers

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
#: Notebook -> words that it prints.
SAID = {
    "one-deployment": ("output_tok_s", "Take 1 x RTX 4090"),
    "size-a-service": ("slo_chance", "Take ", "calibrated"),
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


@pytest.fixture(scope="module")
def shell() -> Iterator[InteractiveShell]:
    """Return what runs cells in a kernel, but in this process: a kernel per notebook took longer than most cells."""
    before, folder, main = renderers.default, Path.cwd(), sys.modules["__main__"]
    renderers.default = "plotly_mimetype"  # what plotly chooses in a kernel
    os.chdir(EXAMPLES)
    with pandas.option_context("display.max_columns", 20):  # what pandas chooses in a kernel
        yield InteractiveShell.instance()
    os.chdir(folder)
    renderers.default = before
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = main  # the shell puts a module of its own there, which new processes cannot start from


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Attempting to work in a virtualenv")  # cells need no IPython of their own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path: Path, shell: InteractiveShell) -> None:
    shell.reset()
    printed, charts = "", 0
    for cell in (c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"):
        with capture_output() as said:
            shell.run_cell(cell.source, store_history=True).raise_error()
        shown = [output.data or {} for output in said.outputs]
        printed += said.stdout + "".join(data.get("text/plain", "") for data in shown)
        charts += sum("application/vnd.plotly.v1+json" in data for data in shown)
    assert not [word for word in SAID[path.stem] if word not in printed]
    assert charts >= CHARTS.get(path.stem, 3)
