"""Write fitted constants into engine files and fitted kernel factors into the table of corrections."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import outfile
from hwdb.tomlfile import read_toml
from perfmodel.costs import FACTORS
from perfmodel.engines import FOLDER, Engine
from perfmodel.fitting.engine_fit import CONSTANTS, EngineFit, FactorFit

#: The kernel factors that cost models read.
CORRECTIONS = Path(__file__).resolve().parents[1] / "costs" / "engine_effects" / "corrections.toml"
HEAD = (
    "# Time of an engine's steps over the sum of stand-alone kernels, by what limits them and by kind of kernel;\n"
    "# fitted by perfmodel.fitting on measured serving runs (train split): "
    "perfmodel/costs/engine_effects/engine_factors.py\n"
)


def write_constants(fitted: EngineFit, folder: Path = FOLDER) -> None:
    """Write the constants that were fitted into the engine's file in `folder`, each with its source."""
    path = folder / f"{fitted.engine.name}.toml"
    text = path.read_text(encoding="utf-8")
    whole = fitted.parts[0]
    before, after = (float(np.abs(r).mean()) for r in (whole.before, whole.after))
    source = (
        f"perfmodel.fitting on {len(whole.target.rows)} measured values of the train split: "
        f"mean absolute log ratio {before:.3f} to {after:.3f}"
    )
    for field in fitted.constants:
        constant = CONSTANTS[field]
        value = _three_digits(getattr(fitted.engine, field) * constant.scale)
        line = f'{constant.key} = {{ value = {value:g}, kind = "fitted", source = "{source}" }}'
        text = re.sub(rf"(?m)^{constant.key} = .*$", line, text)
    outfile.write_text(path, text)


def write_factors(fits: Iterable[EngineFit], path: Path = CORRECTIONS) -> None:
    """Write the fitted factors into the table at `path`, in place of those of the same engines; others stay."""
    entries = [e for fitted in fits for e in factor_entries(fitted)]
    fitted_engines = {e["engine"] for e in entries}
    _put(path, entries, lambda old: old["engine"] in fitted_engines)


def write_device_factors(fits: Iterable[tuple[Engine, FactorFit]], path: Path = CORRECTIONS) -> None:
    """Write factors of classes and devices into the table at `path`, in place of theirs; all other entries stay."""
    entries = [_factor_entry(engine.name, part) for engine, part in fits]
    new = {(e["engine"], e.get("device"), e.get("kind")) for e in entries}
    _put(path, entries, lambda old: (old["engine"], old.get("device"), old.get("kind")) in new)


def _put(path: Path, entries: list[dict[str, Any]], superseded: Callable[[dict[str, Any]], bool]) -> None:
    """Write `entries` into the table at `path` in place of those that they supersede, by engine, devices last."""
    kept = [e for e in read_toml(path, "table of corrections").get("correction", []) if not superseded(e)]
    ordered = sorted([*kept, *entries], key=lambda e: (str(e["engine"]), "device" in e, str(e.get("device", ""))))
    outfile.write_text(path, "\n".join([HEAD, *(_entry_text(e) for e in ordered)]))


def factor_entries(fitted: EngineFit) -> list[dict[str, Any]]:
    """Return the engine's entries in the table of corrections, one per place, rounded to three digits."""
    return [_factor_entry(fitted.engine.name, part) for part in fitted.parts]


def _factor_entry(engine: str, part: FactorFit) -> dict[str, Any]:
    """Return the entry of one place in the table of corrections. engine: name of the engine."""
    return {
        "engine": engine,
        **part.place,
        **{n: _three_digits(f) for n, f in zip(FACTORS, part.factors, strict=True)},
        "values": len(part.target.rows),
    }


def _entry_text(entry: dict[str, Any]) -> str:
    """Return one entry of the table of corrections as TOML."""
    lines = [f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v!r}" for k, v in entry.items()]
    return "[[correction]]\n" + "\n".join(lines) + "\n"


def _three_digits(value: float) -> float:
    """Round the value to three significant digits."""
    return float(f"{value:.3g}")
