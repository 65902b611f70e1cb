"""Scores watts and joules of `perfmodel predict` on measured serving runs, against simpler forms, and power limits.

    python -m benchmarks.power CASES.csv TRUTH.csv [--kernels FOLDER] [-o docs/accuracy-power.md]

CASES and TRUTH are described in `perfmodel/fitting/measured.py`. Constants are those of `perfmodel.power`, fitted
on the split `train` by `python -m perfmodel.fitting power CASES.csv TRUTH.csv --write`; rows here are of the split
`test`. The simpler forms: the power limit; a line in the share of time that kernels run, fitted on `train`; a share of
the limit by class of step, from watts of kernels; the saturating sum of an earlier study, which has one constant per
architecture. FOLDER holds tables of measured kernels (`python -m perfmodel.fitting kernels`), which are predicted
with the sizes of their layer left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hwdb import load, outfile
from perfmodel import predict
from perfmodel.fitting import counted, fitted_kernels, power_rows
from perfmodel.fitting.measured import joined
from perfmodel.hardware import hardware_of
from perfmodel.power import Activity, constants, mean_power, use_of
from perfmodel.vocabulary import WORK

METRICS = ("power_w_per_device", "energy_j_per_output_token")
#: Constants of the study: share of the limit above `ready` that an architecture reaches; others as Hopper.
STUDY = {"Blackwell": 0.83, "Ampere": 0.64, "CDNA4": 0.63}
STUDY_OTHERS = 0.80
#: Shares of the limit by class of step: medians of GEMMs of thousands of tokens and of decodes, kernels over 100 us on
#: H200, B200 and GB200 (NVIDIA AIConfigurator, Apache-2.0, @095f58a).
PROMPT_SHARE, DECODE_SHARE = 0.97, 0.64
HEAD = """# Accuracy of watts, joules and power limits

Made by one command, `python -m benchmarks.power CASES.csv TRUTH.csv -o docs/accuracy-power.md`. Measured values of
published serving runs that nothing was fitted on (split `test`, without rows that another source also measured in the
other split), setups known, no speculative decoding. |error| is relative to the measurement; bias is the median signed
error; `inside` is the share of measurements within the 80 % interval.

Watts are those of the meter of each source: the board of a PCIe card, the module (SXM, OAM) of a server, and for GB10
the GPU's part of the chip as nvidia-smi reports it, not the 140 W of the package. CPUs, Apple's chips and the CPU part
of superchips have no measured run: their watts are of the package that the device file rates, with the constants of
their kind of memory and the wide interval of devices without runs. Hosts are counted apart (`host_power_kw`).
"""
#: Fewest runs of an architecture that has a column of its own.
LEAST_SHOWN = 10
KERNELS_HEAD = """Kernels of more than 100 us on H200, B200 and GB200 that ran back to back, without sliding windows
(AIConfigurator, Apache-2.0). `perfmodel op` looks them up where the device is one of these or the same chip.
"""


def figures(rows: pd.DataFrame) -> dict[str, object]:
    """Return the figures of one line of a table. rows: `error`, `value`, `low`, `high`, NaN where not answered."""
    hit = rows[rows.error.notna()]
    off = hit.error.abs()
    out: dict[str, object] = {"values": len(rows), "answered": f"{len(hit) / len(rows):.1%}"}
    if len(hit):
        out |= {
            "median": f"{off.median():.1%}",
            "p90": f"{off.quantile(0.9):.1%}",
            "bias": f"{hit.error.median():+.1%}",
        }
        band = hit[hit.low.notna()] if "low" in hit else hit[:0]
        inside = ((band.value >= band.low) & (band.value <= band.high)).mean() if len(band) else np.nan
        out["inside"] = f"{inside:.1%}" if len(band) else "-"
    return out


def table_text(lines: list[dict[str, object]]) -> str:
    """Return lines of equal columns as a table in Markdown."""
    rows = [list(lines[0]), ["---"] * len(lines[0]), *([str(v) for v in line.values()] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def by(rows: pd.DataFrame, column: str) -> list[dict[str, object]]:
    """Return a line of figures for each value of a column, those with most rows first."""
    names = rows[column].value_counts().index
    return [{column: name, **figures(rows[rows[column] == name])} for name in names]


def simpler(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return the watts that simpler forms predict for the runs of `test`, by name of the form."""
    ready = constants().ready * test.rated
    line = np.median((train.watts / train.rated - constants().ready) / train.kernels)
    work = 4.8 * test.flop_16 + 8.8 * test.flop_8 + 7.3 * test.flop_4 + 1.9 * test.moved
    reached = test.arch.str.split().str[0].map(STUDY).fillna(STUDY_OTHERS)
    study = ready + reached * (1.1 * test.rated - ready) * -np.expm1(-(0.19 * test.busy + work))
    classes = test.rated * (
        constants().ready * (1.0 - test.kernels)
        + PROMPT_SHARE * test.prompts_kernels
        + DECODE_SHARE * (test.kernels - test.prompts_kernels)
    )
    forms = {
        "power limit": test.limit,
        "ready + line in the share of time that kernels run": np.minimum(
            ready + line * test.rated * test.kernels, test.limit
        ),
        "share of the limit by class of step": np.minimum(classes, test.limit),
        "saturating sum of the study": np.minimum(study, test.limit),
    }
    return {name: watts.to_numpy(float) for name, watts in forms.items()}


def forms_table(train: pd.DataFrame, test: pd.DataFrame, predicted: pd.Series) -> list[dict[str, object]]:
    """Return a line per form of watts, all on the same measured watts, with the median |error| by architecture.

    predicted: watts of `predict` by case.
    """
    measured = test[test.power_w_per_device.notna()]
    forms = {"**perfmodel**": measured.case_id.map(predicted).to_numpy(float), **simpler(train, measured)}
    value = measured.power_w_per_device.to_numpy()
    counts = measured.arch.value_counts()
    lines = []
    for name, watts in forms.items():
        off = pd.DataFrame({"error": watts / value - 1.0})
        by_arch = off.error.abs().groupby(measured.arch.to_numpy()).median()
        shown = {f"{a} ({counts[a]})": f"{by_arch[a]:.1%}" for a in counts.index[counts >= LEAST_SHOWN]}
        lines.append({"form": name, **_bare(figures(off)), **shown})
    return lines


def kernels_table(folder: Path) -> list[dict[str, object]]:
    """Return a line per family of measured kernels: watts with the sizes of the layer left out, and by serving runs."""
    rows = fitted_kernels(folder).rows
    rows = rows.assign(serving=_serving_share(rows))[rows.out.notna()]
    lines = []
    for name, mine in [("all", rows), *rows.groupby("family")]:
        for what, column in (("kernels of other sizes", "out"), ("constants of serving runs", "serving")):
            off = pd.DataFrame({"error": mine[column] / mine.share - 1.0})
            lines.append({"kernels": name, "by": what, **_bare(figures(off))})
    return lines


def _serving_share(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the share of the limit of each kernel by the constants of serving runs and its measured time."""
    share = np.full(len(rows), np.nan)
    for (name, width), place in rows.groupby(["device", "width"]).indices.items():
        mine = rows.iloc[place]
        hardware = hardware_of([load().device(name)], np.zeros(len(mine), dtype=np.intp))
        work = np.zeros((len(WORK), len(mine)))
        wide = mine.family.eq("gemm") & (width < 16)
        kind = {8: "flop_8", 4: "flop_4"}.get(int(width), "flop_16")
        work[WORK.index(kind)] = np.where(wide, mine.flop / mine.time, 0.0)
        work[WORK.index("flop_16")] += np.where(wide, 0.0, mine.flop / mine.time)
        work[WORK.index("moved")] = mine.moved / mine.time
        ones = np.ones(len(mine))
        share[place] = mean_power(hardware, Activity(ones, ones, use_of(hardware, work))) / hardware.tdp
    return share


def _bare(line: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in line.items() if name != "inside"}


def limits_table(cases: pd.DataFrame, truth: pd.DataFrame, found: pd.DataFrame) -> list[dict[str, object]]:
    """Return a line per sweep of the power limit: errors of rates over that at the highest limit, and of watts."""
    swept = cases[(cases.power_cap_w != "") & (cases.dataset == "mmbt_power_rtxpro6000")]
    values = truth.pivot_table(index="case_id", columns="metric", values="value")
    table = swept.set_index("case_id")[["split", "model", "mode", "power_cap_w"]].join(values)
    table = table.join(found.set_index("case_id")[["output_tok_s", *METRICS]], rsuffix="_found")
    lines = []
    for (split, name, mode), rows in table.astype({"power_cap_w": float}).groupby(["split", "model", "mode"]):
        top = rows.power_cap_w.idxmax()
        rate = rows.output_tok_s_found / rows.output_tok_s_found[top] / (rows.output_tok_s / rows.output_tok_s[top]) - 1
        watts = rows.power_w_per_device_found / rows.power_w_per_device - 1
        figures = {"rate, median": rate.abs().median(), "rate, worst": rate.abs().max()}
        figures |= {"watts, median": watts.abs().median(), "watts, worst": watts.abs().max()}
        lines.append({"split": split, "model": name, "load": mode, **{k: f"{v:.1%}" for k, v in figures.items()}})
    return lines


def page(cases_path: Path, truth_path: Path, kernels: Path | None = None) -> str:
    """Return the text of the page."""
    cases, truth = pd.read_csv(cases_path, dtype=str, keep_default_na=False), pd.read_csv(truth_path)
    asked = truth[truth.metric.isin(METRICS)]
    mine = cases[cases.case_id.isin(asked.case_id)]
    test = mine[counted(mine, "test")]
    swept = mine[mine.dataset == "mmbt_power_rtxpro6000"]
    found = predict(pd.concat([test, swept]).drop_duplicates("case_id"))
    rows = joined(asked[asked.case_id.isin(test.case_id)].merge(test, on="case_id"), found)
    rows["architecture"] = rows.device.map(_architectures(set(rows.device)))
    parts = [HEAD, "## By metric\n", table_text(by(rows, "metric"))]
    for metric in METRICS:
        own = rows[rows.metric == metric]
        parts += [f"## {metric} by architecture\n", table_text(by(own, "architecture"))]
        parts += [f"## {metric} by source\n", table_text(by(own, "dataset"))]
    watts = pd.to_numeric(found.set_index("case_id").power_w_per_device, errors="coerce")
    train_rows, test_rows = power_rows(cases_path, truth_path), power_rows(cases_path, truth_path, "test")
    parts += ["## Other forms, on the same measured watts\n", table_text(forms_table(train_rows, test_rows, watts))]
    parts += [
        "## Power limits\n",
        "Rates relative to the one at the highest limit, from 600 down to 300 of 600 W, by predictions from the case "
        "alone. The slow-down is fitted on the sweeps of the split `train` and on one of 6 RTX 3090 from 350 to 100 W "
        "(`python -m perfmodel.fitting caps`; its errors stand in `[capping]` of `perfmodel/power/power.toml`).\n",
        table_text(limits_table(cases, truth, found)),
    ]
    if kernels is not None:
        parts += [
            "## Single kernels, the sizes of their layer left out\n",
            KERNELS_HEAD,
            table_text(kernels_table(kernels)),
        ]
    return "\n".join(parts)


def _architectures(devices: set[str]) -> dict[str, str]:
    database = load()
    return {name: database.device(name).arch for name in devices}


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--kernels", type=Path, metavar="FOLDER", help="tables of measured kernels")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args(arguments)
    text = page(asked.cases, asked.truth, asked.kernels)
    if asked.output:
        outfile.write_text(asked.output, text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
