"""Describe a fit of engines in text: how far predictions lie from measurements before and after it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel.costs import FACTORS
from perfmodel.fitting.engine_fit import CONSTANTS, EngineFit, FactorFit, TooFew

#: Factors closer to 1 than this are not printed. Chosen: runs repeat within a percent.
SHOWN = 0.01


def engine_lines(fitted: EngineFit | TooFew) -> Iterator[str]:
    """Yield lines of text about one engine: its constants, and log ratios by place and metric."""
    if isinstance(fitted, TooFew):
        yield f"{fitted.engine}: {fitted.values} values, too few to fit"
        return
    whole, *places = fitted.parts
    name, engine = fitted.engine.name, fitted.engine
    yield from _part_lines(name, whole)
    fields = {c: CONSTANTS[c] for c in fitted.constants}
    for pulls, (median, mean) in fitted.left_out.items():
        title = f"  left out, pulls {pulls.family:g} (chip family) and {pulls.device:g} (device)"
        yield f"{title}: |log ratio| median {median:.4f}, mean {mean:.4f}"
    if not fitted.holds:
        yield "  worse than before: not kept"
    yield "  " + ", ".join(f"{c.key} {getattr(engine, field) * c.scale:.3g}" for field, c in fields.items())
    for part in places:
        where = part.place.get("device") or f"any {part.place['kind']}"
        yield from _part_lines(f"  {name} on {where} {np.round(part.factors, 2)}", part)


def device_lines(engine: str, part: FactorFit) -> Iterator[str]:
    """Yield lines of text about the factors of one device or class of devices under the engine called `engine`."""
    named = zip(FACTORS, part.factors, strict=True)
    factors = ", ".join(f"{n} {f:.2f}" for n, f in named if abs(f - 1.0) >= SHOWN)
    yield from _part_lines(f"{engine} on {part.place.get('device') or part.place['kind']} ({factors})", part)


def _part_lines(title: str, part: FactorFit) -> Iterator[str]:
    """Yield a line for all values of a place and one per metric: number, bias, median error before and after."""
    before, after = np.abs(part.before), np.abs(part.after)
    yield f"{title}: {len(after)} values, mean |log ratio| {before.mean():.3f} -> {after.mean():.3f}"
    for metric, rows in part.target.rows.reset_index(drop=True).groupby("metric"):
        at = rows.index.to_numpy()
        medians = f"median {np.median(before[at]):.3f} -> {np.median(after[at]):.3f}"
        yield f"  {metric:15}{len(at):6}  bias {np.median(part.after[at]):+.3f}  {medians}"
