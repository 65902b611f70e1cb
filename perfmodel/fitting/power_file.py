"""Write fitted constants of power to the file that `perfmodel.power` reads, and say how good they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwdb import outfile
from perfmodel.arrays import Array
from perfmodel.fitting.power_caps import START as CONSTANTS
from perfmodel.fitting.power_caps import CapFit
from perfmodel.fitting.power_fit import (
    HEAD,
    NARROW,
    READY,
    PowerFit,
    by_architecture,
    by_group,
    errors,
    fit_power,
    left_out,
    power_rows,
    widths_of,
)
from perfmodel.vocabulary import WORK

if TYPE_CHECKING:
    import pandas as pd

#: The constants that `perfmodel.power` reads.
POWER = Path(__file__).resolve().parents[1] / "power" / "power.toml"
#: Headings of the parts of the file after those of `power_text`: fitted by `fitted_caps`, and given.
_CAPPING, _GIVEN = "[capping]", "[idle_share]"


@dataclass(frozen=True)
class FittedPower:
    """Hold a fit and what it says of runs that it was not fitted on.

    rows: the runs. groups_out, archs_out: watts of each run by constants fitted without its group of runs, without its
    architecture, (N,).
    """

    fit: PowerFit
    rows: pd.DataFrame
    groups_out: Array
    archs_out: Array

    def lines(self) -> list[str]:
        """Return a summary as text: errors in %, median, 90th percentile and bias."""
        direct = self.rows.power_w_per_device.notna().to_numpy()
        kinds = (
            ("groups of runs left out, all", self.groups_out, np.ones_like(direct)),
            ("groups of runs left out, measured watts", self.groups_out, direct),
            ("architectures left out, all", self.archs_out, np.ones_like(direct)),
        )
        return [
            f"{what}: {which.sum()} runs: median {100 * m:.1f} %, p90 {100 * p:.1f} %, bias {100 * b:+.1f} %"
            for what, watts, which in kinds
            for m, p, b in [errors(self.rows, watts, which)]
        ]


def fitted_power(cases: Path, truth: Path) -> FittedPower:
    """Fit the constants of power on the runs of the train split, and predict each run by ones fitted without it."""
    rows = power_rows(cases, truth)
    return FittedPower(fit_power(rows), rows, left_out(rows, by_group(rows)), left_out(rows, by_architecture(rows)))


def power_text(found: FittedPower) -> str:
    """Return the text of `power.toml` up to the part on power limits."""
    rows, fit = found.rows, found.fit
    source = f"perfmodel.fitting power: {len(rows)} runs in {rows.group.nunique()} groups of the train split"
    shares = {"ready": READY, "head": HEAD, "narrow": NARROW, **dict.fromkeys(WORK, 0.0), **fit.shares}
    lines = [
        "# Watts of a device over its power limit, by what it does; the equation is in `perfmodel.power.device`.",
        "# Made by perfmodel.fitting; `ready`, `head` and `narrow` are set there.",
        *(f"# {line}" for line in found.lines()),
        "",
        "[share_of_limit]",
        f'source = "{source}"',
        *(f"{name} = {value:.4g}" for name, value in shares.items()),
        "",
    ]
    for kind, watts in (("known", found.groups_out), ("unknown", found.archs_out)):
        width = widths_of(rows, watts)
        lines += [f"[spread.{kind}]", f"watts = {width[0]:.3f}", f"joules = {width[1]:.3f}", ""]
    for heading, table in (("memory", fit.memory), ("architecture", fit.architecture)):
        for name, (running, moved) in table.items():
            runs = int((rows["memory" if heading == "memory" else "arch"] == name).sum())
            lines += [
                f"[[{heading}]]",
                f'name = "{name}"',
                f"runs = {runs}",
                f"running = {running:.4g}",
                f"moved = {moved:.4g}",
                "",
            ]
    return "\n".join(lines)


def write_power(found: FittedPower, path: Path = POWER) -> None:
    """Write the fitted constants to the file that `perfmodel.power` reads; what follows them stays."""
    kept = path.read_text()
    outfile.write_text(path, power_text(found) + "\n" + kept[kept.index(_CAPPING) :])


def caps_text(found: CapFit) -> str:
    """Return the part of `power.toml` on power limits."""
    own = found.constants
    sweeps = [
        f"{s.name}: {len(s.limits)} limits from {s.limits.min():.2f} of the rated one, of which it demands "
        f"{demanded:.2f}; {s.source}"
        for s, demanded in zip(found.sweeps, found.demanded, strict=True)
    ]
    lines = [
        _CAPPING,
        f'source = "perfmodel.fitting caps: {len(sweeps)} sweeps of the limit"',
        *(f"# {line}" for line in (*sweeps, *found.lines())),
        *(f"{name} = {getattr(own, name):.4g}" for name in CONSTANTS),
        f"lowest = {np.floor(own.lowest * 1e4) / 1e4:.4f}",
        "",
    ]
    for name, value in own.static.items():
        lines += ["[[capping.static]]", f'name = "{name}"', f"value = {value:.3g}", ""]
    return "\n".join(lines)


def write_caps(found: CapFit, path: Path = POWER) -> None:
    """Write the fitted constants of power limits to the file that `perfmodel.power` reads; the rest stays."""
    kept = path.read_text()
    before, after = kept[: kept.index(_CAPPING)], kept[kept.index(_GIVEN) :]
    outfile.write_text(path, before + caps_text(found) + "\n" + after)
