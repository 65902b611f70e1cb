"""Write what own runs are worth to the files that `perfmodel.user_calibration` and `estimates` read; print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwdb import outfile
from perfmodel.engines import PARTS
from perfmodel.user_calibration.calibration_gain import errors_after_calibration, summary, widths
from perfmodel.user_calibration.decisions import decided, decisions
from perfmodel.user_calibration.fit import Priors
from perfmodel.user_calibration.published import answers, fit_priors, values_of

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "test")
_PERFMODEL = Path(__file__).resolve().parents[1]
PRIORS, WIDTHS = _PERFMODEL / "feedback" / "priors.toml", _PERFMODEL / "estimates" / "own_spread.toml"
COMMAND = "python -m perfmodel.user_calibration CASES.csv TRUTH.csv --write"
PRIORS_HEAD = f"""\
# Log standard deviations: of the factors on the parts of a system, over published systems; of measured values within
# a system. Fitted on runs of split `train`.
# Made by `{COMMAND}`.
"""
WIDTHS_HEAD = f"""\
# Log half-widths of 80 % intervals where the factors come from own runs of the same model: by arrival and number of
# runs, from published groups of split `train` that were calibrated on some of their runs and judged on the others.
# Made by `{COMMAND}`.
"""


@dataclass(frozen=True)
class OwnRuns:
    """Holds priors, what calibrating gains by split of the published runs, for values and for decisions, and the widths
    that are left.
    """

    priors: Priors
    by_split: dict[str, pd.DataFrame]
    decided: dict[str, pd.DataFrame]
    widths: dict[str, dict[str, float]]


def fit_own_runs(
    cases: str | Path, truth: str | Path, keep: Path | None = None, prices: Mapping[str, float] | None = None
) -> OwnRuns:
    """Fit priors on split `train`, and calibrate groups of each split on some of their runs.

    keep: folder for the predictions, which take most of the time. prices: device -> USD per hour, for the choice of
    devices.
    """
    import pandas as pd

    answered = answers(cases, keep)
    values = values_of(truth, answered)
    split = values.frame.split.to_numpy()
    found = fit_priors(values.take(split == "train"))
    judged = {name: errors_after_calibration(values.take(split == name), found) for name in SPLITS}
    chosen = decisions(pd.read_csv(truth), answered, values, found, prices or {})
    return OwnRuns(
        priors=found,
        by_split={name: summary(rows) for name, rows in judged.items()},
        decided={name: decided(chosen[chosen.split == name]) for name in SPLITS},
        widths=widths(judged["train"]),
    )


def own_runs_text(found: OwnRuns) -> str:
    """Return the priors, and per split what calibrating gains, as text."""
    parts = [_priors(found.priors)]
    for split in SPLITS:
        parts.append(f"split {split}: errors on other runs\n{_text(found.by_split[split])}")
        parts.append(f"split {split}: decisions before and after one run per device\n{_text(found.decided[split])}")
    return "\n\n".join(parts)


def _text(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    rows = [[f"{v:.1f}" if isinstance(v, float) else str(v) for v in row] for row in table.itertuples(index=False)]
    head = [[str(name) for name in table.columns], ["---"] * len(table.columns)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])


def _priors(known: Priors) -> str:
    """Return priors as TOML tables."""
    factors = "\n".join(f"{part} = {width:.3f}" for part, width in zip(PARTS, known.factors, strict=True))
    noise = "\n".join(f"{kind} = {width:.3f}" for kind, width in known.noise.items())
    return f"[factors]\n{factors}\n\n[noise]\n{noise}\n"


def write_own_runs(found: OwnRuns) -> None:
    """Write priors and widths into the package."""
    outfile.write_text(PRIORS, f"{PRIORS_HEAD}\n{_priors(found.priors)}")
    tables = (
        f"[{kind}]\n" + "\n".join(f"{name} = {w}" for name, w in rows.items()) for kind, rows in found.widths.items()
    )
    outfile.write_text(WIDTHS, f"{WIDTHS_HEAD}\n" + "\n\n".join(tables) + "\n")
