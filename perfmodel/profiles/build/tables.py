"""From canonical rows to a device's profile: tables, their held-out error, and run.toml."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hwdb
from hwdb import Device, InputError
from perfmodel.arrays import Array
from perfmodel.profiles import store
from perfmodel.profiles.build import heldout, runfile
from perfmodel.profiles.build.fit import Points, fitted_table, places, points, with_chunks
from perfmodel.profiles.build.heldout import Hidden
from perfmodel.profiles.build.smooth import surface
from perfmodel.profiles.families import FAMILY, Family, Reference, Variant, reference
from perfmodel.profiles.importers import SHAPES, Rows
from perfmodel.profiles.store import Measured
from perfmodel.profiles.table import Table

#: Fewer rows than this do not make a table.
LEAST_ROWS = 4
#: Query rows times heads at which half of a device idles in prefill attention, by architecture: what best carries
#: FlashInfer prefills from nothing over to chunks after a context (Frontier's A800 and H800, LLMServingSim's RTX 4090).
BUSY_ROWS = {"Hopper": 12e3, "Blackwell": 8e3, "Ampere": 2e3, "Ada": 2e3, "": 5e3}
#: Degree of the polynomial that stands for measurements whose licence allows no table.
DEGREE = 6
METHOD_CLOSED = f"ridge polynomial of degree {DEGREE} in logarithmic coordinates, tabulated; no measurement is kept"
METHOD = (
    "utilisation = bound/measured on logarithmic axes; empty cells from neighbouring sites by local regression plus "
    "the site's own deviation"
)


def variants(rows: Rows) -> NDArray[Any]:
    """Key of each row's variant (R,)."""
    family = str(rows["family"][0]) if len(rows) else ""
    routing = rows["skew"] if family == "grouped_gemm" else np.full(len(rows), np.nan)
    stored = np.where(rows["weight"] != "", rows["weight"], rows["kv"])
    spelled: dict[tuple[str, str, str], str] = {}
    keys = np.empty(len(rows), dtype=object)
    for index, parts in enumerate(zip(stored, rows["act"], routing, strict=True)):
        name = (parts[0], parts[1], "" if parts[2] != parts[2] else f"{parts[2]:g}")
        keys[index] = spelled.setdefault(name, Variant(*name).key)
    return keys.astype(str)


def located(rows: Rows, device: Device) -> dict[str, tuple[Variant, Reference, Points]]:
    """Rows of one family and device as points, by variant."""
    name = str(rows["family"][0])
    family = FAMILY[name]
    keys = variants(rows)
    out = {}
    for key in sorted(set(keys)):
        part = rows.take(keys == key)
        variant = Variant.parse(key)
        constants = reference(device, variant)
        shape: dict[str, Array | float] = {k: part[k] for k in SHAPES[name] if k != "skew"}
        found = points(family, shape, part["time"], variant, constants, device.l2)
        if len(found) >= LEAST_ROWS:
            out[key] = (variant, constants, found)
    return out


def finished(family: Family, data: Table, device: Device) -> Table:
    """The table as shipped: prefill tables reach down to chunks of a sequence."""
    if family.name not in ("attention_prefill", "mla_prefill"):
        return data
    busy = next((v for k, v in BUSY_ROWS.items() if k in device.arch), BUSY_ROWS[""])
    if family.name == "mla_prefill":
        return with_chunks(data, np.exp(data.sites[:, 0]), np.zeros(len(data.sites)), busy)
    return with_chunks(data, np.exp(data.sites[:, 0] + data.sites[:, 1]), data.sites[:, 1], busy)


@dataclass(frozen=True)
class Trial:
    """Residuals of one held-out test of one family of a device, as measured under a framework."""

    device: str
    family: str
    framework: str
    test: str
    hidden: Hidden


def held_out(
    family: Family, data: Iterable[Points], build: Callable[[Family, Points], Table] = fitted_table, seed: int = 0
) -> dict[str, Hidden]:
    """Residuals of each kind of test (`heldout.TESTS`) that has enough hidden rows."""
    every = list(data)
    found = {
        test: heldout.pooled([heldout.hide(family, p, test, seed, build) for p in every]) for test in heldout.TESTS
    }
    return {test: hidden for test, hidden in found.items() if len(hidden.residual) >= LEAST_ROWS}


def figures(found: dict[str, Hidden]) -> dict[str, float]:
    """Median and 90th percentile of |predicted/measured - 1| by kind of test, and how many were hidden."""
    out: dict[str, float] = {}
    for test, hidden in found.items():
        out[f"{test}_count"] = len(hidden.residual)
        out[f"{test}_median"] = round(hidden.quantile(0.5), 4)
        out[f"{test}_p90"] = round(hidden.quantile(0.9), 4)
    return out


def polynomial(family: Family, data: Points) -> Table:
    """A table of a polynomial fitted to rows of which no table may be kept: its coefficients on a coarse grid."""
    fit = surface(np.concatenate([data.site, data.axis], axis=1), data.value, DEGREE)
    exact = fitted_table(family, data)
    return replace(exact, values=fit.at(places(exact.sites, exact.axes)).astype(np.float32))


def write_family(
    rows: Rows,
    device: Device,
    framework: str,
    folder: Path,
    *,
    closed: bool = False,
    ledger: list[Trial] | None = None,
    **facts: str,
) -> dict[str, Any] | None:
    """Write the tables of one family and framework; the entry for run.toml, None where too few rows are usable.
    closed: keep fitted coefficients only. ledger: where to note the held-out residuals."""
    name = str(rows["family"][0])
    found = located(rows, device)
    if not found:
        return None
    build = polynomial if closed else fitted_table
    tables = [
        Measured(v, r, finished(FAMILY[name], build(FAMILY[name], p), device), closed) for v, r, p in found.values()
    ]
    tests = held_out(FAMILY[name], [p for _, _, p in found.values()], build)
    if ledger is not None:
        ledger += [Trial(device.name, name, framework, test, hidden) for test, hidden in tests.items()]
    path, digest = store.write(folder, name, framework, tables)
    kernels, counts = np.unique(rows["kernel"].astype(str), return_counts=True)
    return {
        "family": name,
        "framework": framework,
        "file": path.name,
        "software": "; ".join(sorted(set(rows["software"]))),
        "kernel": "; ".join(str(k) for k in kernels[np.argsort(-counts)][:4]),
        "source": facts.get("source") or "; ".join(sorted(set(rows["source"])))[:400],
        "licence": facts.get("licence") or "; ".join(sorted(set(rows["licence"]))),
        "date": facts.get("date", "not stated"),
        "method": facts.get("method", METHOD),
        "rows": int(sum(len(p) for _, _, p in found.values())),
        "left_out": int(len(rows) - sum(len(p) for _, _, p in found.values())),
        "sites": int(sum(len(t.table.sites) for t in tables)),
        "variants": [t.variant.key for t in tables],
        "sha256": digest,
        "held_out": figures(tests),
    }


def write_profile(
    rows: Rows, out: Path, *, clean: bool = False, closed: bool = False, ledger: list[Trial] | None = None, **facts: str
) -> list[Path]:
    """Profiles of canonical rows: one folder a device under `out`, tables by family and framework (the first word of
    `software`). clean: start each folder anew. Returns the folders; `InputError` if no row is usable."""
    folders = []
    for name in sorted(set(rows["device"])):
        device = hwdb.device(str(name))
        mine = rows.take(rows["device"] == name)
        folder = out / device.name
        if clean and folder.is_dir():
            shutil.rmtree(folder)
        entries = []
        for framework, part in split(mine):
            entry = write_family(part, device, framework, folder, closed=closed, ledger=ledger, **facts)
            if entry:
                entries.append(entry)
        if entries:
            runfile.update(folder / "run.toml", device.name, entries)
            folders.append(folder)
    if not folders:
        raise InputError(f"no usable rows for {out}: {len(rows)} given; a table needs {LEAST_ROWS} of a family")
    return folders


def split(rows: Rows) -> Iterable[tuple[str, Rows]]:
    """(framework, rows) of each family and framework."""
    for family in sorted(set(rows["family"]) & set(FAMILY)):
        part = rows.family(family)
        framework = np.array([(s.split() or ["own"])[0].lower() for s in part["software"]])
        for name in sorted(set(framework)):
            yield str(name), part.take(framework == name)
