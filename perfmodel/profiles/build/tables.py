"""Write a device's profile from canonical rows: the tables, their held-out error, and run.toml."""

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
from perfmodel.vocabulary import EVEN, EVEN_MASKED

#: Fewest rows that make a table, and fewest held-out rows that give a held-out error. Chosen.
LEAST_ROWS = 4
#: Word in the kernel's name of experts that get a fixed number of rows each, and a mask of those that hold tokens.
MASKED_KERNEL = "masked"
#: Query rows times heads at which half of a device idles in prefill attention, by architecture. Fitted: the value that
#: best predicts FlashInfer prefill chunks after a cached context from prefills without one (measurements of Frontier's
#: A800 and H800 and of LLMServingSim's RTX 4090).
BUSY_ROWS = {"Hopper": 12e3, "Blackwell": 8e3, "Ampere": 2e3, "Ada": 2e3, "": 5e3}
#: Degree of the polynomial that replaces measurements whose licence does not allow redistribution. Chosen.
DEGREE = 6
#: Most kernels, and most characters of the source, that run.toml names.
MOST_KERNELS, MOST_SOURCE = 4, 400
#: `method` of a table in run.toml: measurements redistributable or not.
METHOD_CLOSED = f"ridge polynomial of degree {DEGREE} in logarithmic coordinates, tabulated; no measurement is kept"
METHOD = (
    "utilisation = bound/measured on logarithmic axes; empty cells from neighbouring sites by local regression plus "
    "the site's own deviation"
)


def variants(rows: Rows) -> NDArray[Any]:
    """Return the variant key (`Variant.key`: number formats, and routing of experts) of each row, (R,). All rows are of
    one family."""
    family = str(rows["family"][0]) if len(rows) else ""
    routing = _routing(rows) if family == "grouped_gemm" else np.full(len(rows), "", dtype=object)
    stored = np.where(rows["weight"] != "", rows["weight"], rows["kv"])
    spelled: dict[tuple[str, str, str], str] = {}
    keys = np.empty(len(rows), dtype=object)
    for index, name in enumerate(zip(stored, rows["act"], routing, strict=True)):
        keys[index] = spelled.setdefault(name, Variant(*name).key)
    return keys.astype(str)


def _routing(rows: Rows) -> NDArray[Any]:
    """Return the routing (`Variant.routing`) of each row of experts, (R,).

    A balanced load over several expert-parallel ranks gives every rank an equal share: rows where it does not are left
    out before (`perfmodel.profiles.build.cleaning.misrouted`).
    """
    masked = np.char.find(rows["kernel"].astype(str), MASKED_KERNEL) >= 0
    names = np.array(["" if s != s else f"{s:g}" for s in rows["skew"]], dtype=object)
    shared = (rows["skew"] == 0.0) & (rows["ep"] > 1)
    names[shared] = np.where(masked[shared], EVEN_MASKED, EVEN)
    return names


def located(rows: Rows, device: Device) -> dict[str, tuple[Variant, Reference, Points]]:
    """Sort rows of one family and device by variant, and convert them to table coordinates.

    Returns variant key -> (variant, constants of its bound, points). Variants with fewer than `LEAST_ROWS` usable rows
    are left out.
    """
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
    """Return the table as shipped: prefill attention is extended to prefill chunks (`build.fit.with_chunks`)."""
    if family.name not in ("attention_prefill", "mla_prefill"):
        return data
    busy = next((v for k, v in BUSY_ROWS.items() if k in device.arch), BUSY_ROWS[""])
    if family.name == "mla_prefill":
        return with_chunks(data, np.exp(data.sites[:, 0]), np.zeros(len(data.sites)), busy)
    return with_chunks(data, np.exp(data.sites[:, 0] + data.sites[:, 1]), data.sites[:, 1], busy)


@dataclass(frozen=True)
class Trial:
    """Hold the residuals of one held-out test (`heldout.TESTS` or "repeats") of one family, device and framework."""

    device: str
    family: str
    framework: str
    test: str
    hidden: Hidden


def held_out(
    family: Family, data: Iterable[Points], build: Callable[[Family, Points], Table] = fitted_table, seed: int = 0
) -> dict[str, Hidden]:
    """Run each held-out test (`heldout.TESTS`), and return the residuals of those with at least `LEAST_ROWS` hidden
    rows.

    data: the points of each variant. build: function that makes a table from points. seed: of the random choice of
    hidden rows.
    """
    every = list(data)
    found = {
        test: heldout.pooled([heldout.hide(family, p, test, seed, build) for p in every]) for test in heldout.TESTS
    }
    return {test: hidden for test, hidden in found.items() if len(hidden.residual) >= LEAST_ROWS}


def figures(found: dict[str, Hidden]) -> dict[str, float]:
    """Summarise each held-out test for run.toml: number of hidden rows, median and 90th percentile of |predicted /
    measured - 1|."""
    out: dict[str, float] = {}
    for test, hidden in found.items():
        out[f"{test}_count"] = len(hidden.residual)
        out[f"{test}_median"] = round(hidden.quantile(0.5), 4)
        out[f"{test}_p90"] = round(hidden.quantile(0.9), 4)
    return out


def polynomial(family: Family, data: Points) -> Table:
    """Make a table from a polynomial that was fitted to `data`, for rows that must not be redistributed."""
    fit = surface(np.concatenate([data.site, data.axis], axis=1), data.value, DEGREE)
    exact = fitted_table(family, data)
    return replace(exact, values=fit.at(places(exact.sites, exact.axes)).astype(np.float32))


@dataclass(frozen=True)
class Provenance:
    """Hold the origin of a table as run.toml records it. An empty source or licence is taken from the rows."""

    source: str = ""
    licence: str = ""
    date: str = "not stated"
    method: str = METHOD


def write_family(
    rows: Rows,
    device: Device,
    framework: str,
    folder: Path,
    *,
    closed: bool = False,
    ledger: list[Trial] | None = None,
    origin: Provenance = Provenance(),
) -> dict[str, Any] | None:
    """Write the tables of one family and framework; return the entry for run.toml, or None with too few usable rows.

    closed: the rows must not be redistributed, so store a fitted polynomial. ledger: list that the held-out residuals
    are appended to. origin: where the rows come from.
    """
    name = str(rows["family"][0])
    family, found = FAMILY[name], located(rows, device)
    if not found:
        return None
    build = polynomial if closed else fitted_table
    data = [points for _, _, points in found.values()]
    made = [finished(family, build(family, points), device) for points in data]
    tables = [
        Measured(variant=variant, reference=constants, table=table, fitted=closed)
        for (variant, constants, _), table in zip(found.values(), made, strict=True)
    ]
    tests = held_out(family, data, build)
    if ledger is not None:
        ledger += [Trial(device.name, name, framework, test, hidden) for test, hidden in tests.items()]
    path, digest = store.write(folder, name, framework, tables)
    used = sum(map(len, data))
    entry = {"family": name, "framework": framework, "file": path.name, **_origin(rows, origin)}
    coverage = {"rows": used, "left_out": len(rows) - used, "sites": sum(len(table.sites) for table in made)}
    variants = [table.variant.key for table in tables]
    return {**entry, **coverage, "variants": variants, "sha256": digest, "held_out": figures(tests)}


def _origin(rows: Rows, origin: Provenance) -> dict[str, str]:
    """Return the origin of a table for run.toml: software, most frequent kernels, source, licence, date, method."""
    kernels, counts = np.unique(rows["kernel"].astype(str), return_counts=True)
    return {
        "software": "; ".join(sorted(set(rows["software"]))),
        "kernel": "; ".join(str(k) for k in kernels[np.argsort(-counts)][:MOST_KERNELS]),
        "source": origin.source or "; ".join(sorted(set(rows["source"])))[:MOST_SOURCE],
        "licence": origin.licence or "; ".join(sorted(set(rows["licence"]))),
        "date": origin.date,
        "method": origin.method,
    }


def write_profile(
    rows: Rows,
    out: Path,
    *,
    clean: bool = False,
    closed: bool = False,
    ledger: list[Trial] | None = None,
    origin: Provenance = Provenance(),
) -> list[Path]:
    """Write the profiles of canonical rows: one folder per device under `out`, one file per family and framework.

    clean: delete a device's folder first. closed, ledger: see `write_family`. Returns the folders. Raises `InputError`
    if no row is usable.
    """
    folders = []
    for name in sorted(set(rows["device"])):
        device = hwdb.device(str(name))
        mine = rows.take(rows["device"] == name)
        folder = out / device.name
        if clean and folder.is_dir():
            shutil.rmtree(folder)
        entries = []
        for framework, part in split(mine):
            entry = write_family(part, device, framework, folder, closed=closed, ledger=ledger, origin=origin)
            if entry:
                entries.append(entry)
        if entries:
            runfile.update(folder / "run.toml", device.name, entries)
            folders.append(folder)
    if not folders:
        raise InputError(
            f"no usable rows for {out}: {len(rows)} given; a table needs at least {LEAST_ROWS} rows of a family"
        )
    return folders


def split(rows: Rows) -> Iterable[tuple[str, Rows]]:
    """Yield (framework, rows) of each family and framework. The framework is the first word of a row's `software`."""
    for family in sorted(set(rows["family"]) & set(FAMILY)):
        part = rows.family(family)
        framework = np.array([(s.split() or ["own"])[0].lower() for s in part["software"]])
        for name in sorted(set(framework)):
            yield str(name), part.take(framework == name)
