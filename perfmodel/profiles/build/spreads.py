"""Learns how wide 80 % intervals are: quantiles of held-out residuals by family and basis, written to spread.toml."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perfmodel.arrays import Array
from perfmodel.profiles.build.tables import Trial
from perfmodel.profiles.store import read_toml
from perfmodel.vocabulary import BASES, BASIS_CODE, FAMILIES

#: Share of residuals that an interval holds.
COVERAGE = 0.8
#: What spread.toml may hold of a family: bases, and for calibrated ones how near the relative is.
KEYS = (*BASES[:3], "calibrated_twin", "calibrated", "calibrated_stranger")
#: Fewer residuals than this do not set a spread of their own.
LEAST = 30
_MEASURED, _INTERPOLATED, _EXTRAPOLATED = (BASIS_CODE[b] for b in ("measured", "interpolated", "extrapolated"))


def residuals(ledger: list[Trial], family: str, basis: str) -> Array:
    """Residuals ln(predicted/measured) of a family that speak for a basis, each device with the same weight.

    measured: by how much a second measurement of the same kernel and shape differs. interpolated: hidden points and
    sites. extrapolated: hidden last octaves of axes and of sites.
    """
    tests = {"measured": ("repeats",), "interpolated": ("points", "sites"), "extrapolated": ("octave", "border")}[basis]
    rng = np.random.default_rng(0)
    parts = [t.hidden.residual for t in ledger if t.family == family and t.test in tests and len(t.hidden.residual)]
    return np.concatenate([rng.choice(p, min(len(p), 4000), replace=False) for p in parts]) if parts else np.zeros(0)


def half_width(residual: Array) -> float:
    """Log half-width that holds `COVERAGE` of the residuals."""
    return float(np.quantile(np.abs(residual), COVERAGE))


def learned(ledger: list[Trial]) -> dict[str, dict[str, float]]:
    """family -> basis -> log half-width; a basis with too few residuals takes the pooled one of all families."""
    bases = ("measured", "interpolated", "extrapolated")
    pool = {b: np.concatenate([residuals(ledger, f, b) for f in FAMILIES]) for b in bases}
    out: dict[str, dict[str, float]] = {}
    for family in FAMILIES:
        widths: dict[str, float] = {}
        for basis in bases:
            own = residuals(ledger, family, basis)
            chosen = own if len(own) >= LEAST else pool[basis]
            if len(chosen):
                widths[basis] = max(round(half_width(chosen), 4), max(widths.values(), default=0.0))
        out[family] = widths
    return out


def text(spread: dict[str, dict[str, float]]) -> str:
    """The content of spread.toml."""
    lines = [
        "# Log half-width of the 80 % interval of an operator time, by family and basis: the 80 % quantile of",
        "# |ln(predicted/measured)| of held-out measurements. Written by perfmodel.profiles.build (measured,",
        "# interpolated, extrapolated) and perfmodel.calibration (calibrated, by how near the relative is).",
        "",
    ]
    for family, widths in spread.items():
        lines += [f"[spread.{family}]", *(f"{b} = {widths[b]}" for b in KEYS if b in widths), ""]
    return "\n".join(lines)


def merge(path: Path, fresh: dict[str, dict[str, float]]) -> None:
    """Write `fresh` into spread.toml, keeping the bases that it does not mention."""
    old = read_toml(path)["spread"] if path.is_file() else {}
    merged = {f: {**old.get(f, {}), **fresh.get(f, {})} for f in FAMILIES}
    path.write_text(text(merged), encoding="utf-8")


def write_spreads(path: Path, ledger: list[Trial]) -> None:
    """Write what `ledger` teaches."""
    merge(path, learned(ledger))
