"""The command `perfmodel predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwdb import outfile
from search.commands.shared.option_groups import grouped
from search.commands.shared.options import DataFormOptions

EXAMPLES = """\
perfmodel predict cases.csv -o predictions.csv
perfmodel predict cases.csv.gz --json"""

Cases = Annotated[Path, typer.Argument(metavar="CASES.csv", help="Cases, one per row; plain or gzipped CSV.")]
Target = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="File to write, gzipped if it ends in .gz (default: stdout).",
        rich_help_panel="Output",
    ),
]


Calibration = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="What own benchmarks say of own systems, made by `calibrate`.")
]


Supply = Annotated[
    str,
    typer.Option(
        metavar="LEVEL",
        help="80 PLUS level of the servers' power supplies, whose losses wall_power_w counts (titanium).",
    ),
]


@grouped
def predict_command(
    cases: Cases, output: DataFormOptions, target: Target = None, calibration: Calibration = None, psu: Supply = ""
) -> None:
    """Predict latency, throughput, memory and power per row of a table.

    Prints CSV. A case that cannot be predicted says why in its column `error`; the others are predicted all the same.
    """
    from perfmodel import predict
    from perfmodel.cases import column_remarks
    from perfmodel.user_calibration import read_adjustments
    from search.output import progress_bar, write_predictions

    form = output.form
    if target is not None:
        outfile.check(target, cases)
    own = () if calibration is None else read_adjustments(calibration)
    with progress_bar("predicting") as update:
        frame = predict(cases, hwdb=output.database(), adjustments=own, progress=update, psu=psu)
    for remark in column_remarks(frame.columns):
        typer.echo(f"note: {remark}", err=True)
    write_predictions(frame, target, as_json=form == "json")
