"""Builds profiles: `python -m perfmodel.profiles.build [--sources DIR] [--only DEVICE ...] [--out data/profiles]`.

Reads the tables of the installed aiconfigurator-core package and, with --sources, the folder of operator files that
`perfmodel.profiles.files` describes; writes one folder a device. The same inputs give the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hwdb
from hwdb import Device, InputError
from perfmodel.demand import Array
from perfmodel.dtypes import FALLBACK
from perfmodel.profiles import aiconfigurator, heldout, runfile, store
from perfmodel.profiles.families import FAMILY, Family, Reference, Variant
from perfmodel.profiles.fit import Points, points, table
from perfmodel.profiles.importers.rows import SHAPES, Rows, concat
from perfmodel.profiles.store import Measured

#: Fewer rows than this do not make a table.
LEAST_ROWS = 4
METHOD = (
    "utilisation = bound/measured on logarithmic axes; empty cells from neighbouring sites by local regression plus "
    "the site's own deviation"
)


def reference(device: Device, variant: Variant) -> Reference:
    """Constants that a variant's table is relative to: rated peak of its compute type or of what stands in for it."""
    act = variant.act or "bf16"
    rates = [device.peak(t) for t in (act, *FALLBACK[act])]
    peak = next((r for r in rates if r == r), float("nan"))
    return Reference(peak, device.bandwidth, device.link.bandwidth)


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
        found = points(family, shape, part["time"], variant, constants)
        if len(found) >= LEAST_ROWS:
            out[key] = (variant, constants, found)
    return out


def measured(rows: Rows, device: Device) -> list[Measured]:
    """The tables of canonical rows that are all of one device, framework and family."""
    family = FAMILY[str(rows["family"][0])]
    return [Measured(v, r, table(family, p)) for v, r, p in located(rows, device).values()]


def held_out(family: Family, data: Iterable[Points], seed: int = 0) -> dict[str, float]:
    """Median and 90th percentile of |predicted/measured - 1| by kind of test, and how many were hidden."""
    every = list(data)
    out: dict[str, float] = {}
    for test in heldout.TESTS:
        hidden = heldout.pooled([heldout.hide(family, p, test, seed) for p in every])
        if len(hidden.residual) >= LEAST_ROWS:
            out[f"{test}_count"] = len(hidden.residual)
            out[f"{test}_median"] = round(hidden.quantile(0.5), 4)
            out[f"{test}_p90"] = round(hidden.quantile(0.9), 4)
    return out


def write_family(rows: Rows, device: Device, framework: str, folder: Path, **facts: str) -> dict[str, Any] | None:
    """Write the tables of one family and framework; the entry for run.toml, None where too few rows are usable."""
    name = str(rows["family"][0])
    found = located(rows, device)
    if not found:
        return None
    tables = [Measured(v, r, table(FAMILY[name], p)) for v, r, p in found.values()]
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
        "date": facts.get("date", ""),
        "method": facts.get("method", METHOD),
        "rows": int(sum(len(p) for _, _, p in found.values())),
        "left_out": int(len(rows) - sum(len(p) for _, _, p in found.values())),
        "sites": int(sum(len(t.table.sites) for t in tables)),
        "variants": [t.variant.key for t in tables],
        "sha256": digest,
        "held_out": held_out(FAMILY[name], [p for _, _, p in found.values()]),
    }


def write_profile(rows: Rows, out: Path, *, clean: bool = False, **facts: str) -> list[Path]:
    """Profiles of canonical rows: one folder a device under `out`, tables by family and framework (the first word of
    `software`). Returns the folders; `InputError` if no row is usable."""
    folders = []
    for name in sorted(set(rows["device"])):
        device = hwdb.device(str(name))
        mine = rows.take(rows["device"] == name)
        folder = out / device.name
        if clean and folder.is_dir():
            shutil.rmtree(folder)
        entries = []
        for framework, part in _split(mine):
            entry = write_family(part, device, framework, folder, **facts)
            if entry:
                entries.append(entry)
        if entries:
            runfile.update(folder / "run.toml", device.name, entries)
            folders.append(folder)
    if not folders:
        raise InputError(f"no usable rows for {out}: {len(rows)} given; a table needs {LEAST_ROWS} of a family")
    return folders


def _split(rows: Rows) -> Iterable[tuple[str, Rows]]:
    for family in sorted(set(rows["family"]) & set(FAMILY)):
        part = rows.family(family)
        framework = np.array([(s.split() or ["own"])[0].lower() for s in part["software"]])
        for name in sorted(set(framework)):
            yield str(name), part.take(framework == name)


def package_rows(root: Path, system: str, device: str, source: str) -> Rows:
    """All rows of a system of aiconfigurator-core, versions of a framework merged, one device at a time."""
    versions: dict[tuple[str, str], list[tuple[str, Rows]]] = {}
    for kind, framework, version, path in aiconfigurator.tables(root, system):
        loaded = aiconfigurator.read_table(
            path, device=device, family=kind, framework=framework, version=version, source=source
        )
        for family in sorted(set(loaded["family"])):
            versions.setdefault((family, framework), []).append((version, loaded.family(family)))
    parts = []
    for (family, _), found in sorted(versions.items()):
        keys = ("weight", "act", "kv", *SHAPES[family])
        parts.append(aiconfigurator.merged(found, keys, ("weight", "act", "kv")))
    return concat(parts)


def build_package(out: Path, only: set[str], say: Callable[[str], None] = print) -> None:
    """Profiles from the installed aiconfigurator-core."""
    root, version = aiconfigurator.installed()
    source = f"{aiconfigurator.PACKAGE} {version} (PyPI; github.com/ai-dynamo/aiconfigurator)"
    for system, device in sorted(aiconfigurator.SYSTEMS.items()):
        if only and device not in only:
            continue
        rows = package_rows(root, system, device, source)
        write_profile(rows, out, clean=True, source=source, licence=aiconfigurator.LICENCE, date=PACKAGE_DATE)
        say(f"{device}: {len(rows)} rows")


#: When the package's tables were released; its tables do not say when each was measured.
PACKAGE_DATE = "2026"


def main(arguments: list[str] | None = None) -> None:
    """Command line of `python -m perfmodel.profiles.build`."""
    parser = argparse.ArgumentParser(prog="python -m perfmodel.profiles.build", description=__doc__)
    parser.add_argument("--sources", type=Path, help="folder of operator files (see docs/profiles.md)")
    parser.add_argument("--only", nargs="*", default=[], help="devices to build")
    parser.add_argument("--out", type=Path, default=Path("data/profiles"))
    chosen = parser.parse_args(arguments)
    build_package(chosen.out, set(chosen.only))


if __name__ == "__main__":
    main()
