"""Learn the width of 80 % prediction intervals and write it to spread.toml.

The width is the 80 % quantile of the absolute held-out residuals, per operator family and basis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwdb import outfile
from perfmodel.arrays import Array
from perfmodel.profiles.build.tables import Trial
from perfmodel.profiles.store import read_toml
from perfmodel.vocabulary import BASES, FAMILIES

#: Share of residuals that an interval covers.
COVERAGE = 0.8
#: Keys of a family in spread.toml. Calibrated bases are split by similarity of the device that was calibrated from.
KEYS = (*BASES[:3], "calibrated_twin", "calibrated", "calibrated_stranger")
#: Fewest residuals that give a family its own width; with fewer, the pooled width of all families is used. Chosen.
LEAST_RESIDUALS = 30
#: Most residuals per device and test, drawn at random, so that large tables do not outweigh small ones. Chosen.
MOST_RESIDUALS = 4000
#: The bases whose width is learned here, and the held-out tests (`build.heldout`) that each is learned from.
TESTS = {"measured": ("repeats",), "interpolated": ("points", "sites"), "extrapolated": ("octave", "border")}


def residuals(ledger: list[Trial], family: str, basis: str) -> Array:
    """Collect the residuals ln(predicted / measured) of a family for one basis, from all devices.

    measured: second measurements of the same kernel and shape against the first. interpolated: hidden points and sites.
    extrapolated: hidden last octaves of axes and of site coordinates.
    """
    rng = np.random.default_rng(0)
    parts = [
        t.hidden.residual for t in ledger if t.family == family and t.test in TESTS[basis] and len(t.hidden.residual)
    ]
    return (
        np.concatenate([rng.choice(p, min(len(p), MOST_RESIDUALS), replace=False) for p in parts])
        if parts
        else np.zeros(0)
    )


def half_width(residual: Array) -> float:
    """Return the half-width, in logarithm of time, of the interval that covers `COVERAGE` of the residuals (R,)."""
    return float(np.quantile(np.abs(residual), COVERAGE))


def learned(ledger: list[Trial]) -> dict[str, dict[str, float]]:
    """Learn the width of each interval: family -> basis -> half-width in logarithm of time.

    A basis with fewer than `LEAST_RESIDUALS` residuals takes the width of all families pooled. Within a family, no
    basis is narrower than the one before it (measured, interpolated, extrapolated).
    """
    pool = {b: np.concatenate([residuals(ledger, f, b) for f in FAMILIES]) for b in TESTS}
    out: dict[str, dict[str, float]] = {}
    for family in FAMILIES:
        widths: dict[str, float] = {}
        for basis in TESTS:
            own = residuals(ledger, family, basis)
            chosen = own if len(own) >= LEAST_RESIDUALS else pool[basis]
            if len(chosen):
                widths[basis] = max(round(half_width(chosen), 4), max(widths.values(), default=0.0))
        out[family] = widths
    return out


def text(spread: dict[str, dict[str, float]]) -> str:
    """Return the content of spread.toml for `spread`: family -> basis -> half-width in logarithm of time."""
    lines = [
        "# Log half-width of the 80 % interval of an operator time, by family and basis: the 80 % quantile of",
        "# |ln(predicted/measured)| of held-out measurements. Written by perfmodel.profiles.build (measured,",
        "# interpolated, extrapolated) and perfmodel.fitting (calibrated, by how near the relative is).",
        "",
    ]
    for family, widths in spread.items():
        lines += [f"[spread.{family}]", *(f"{b} = {widths[b]}" for b in KEYS if b in widths), ""]
    return "\n".join(lines)


def merge(path: Path, fresh: dict[str, dict[str, float]]) -> None:
    """Write the half-widths `fresh` (family -> basis -> half-width) into spread.toml. Bases that it does not mention
    keep their width."""
    old = read_toml(path)["spread"] if path.is_file() else {}
    merged = {f: {**old.get(f, {}), **fresh.get(f, {})} for f in FAMILIES}
    outfile.write_text(path, text(merged))


def write_spreads(path: Path, ledger: list[Trial]) -> None:
    """Write the widths learned from the held-out residuals in `ledger`."""
    merge(path, learned(ledger))
