"""Builds the shipped profiles: `python -m perfmodel.profiles.build [--sources DIR] [--only DEVICE ...] [--out DIR]`.

Reads the tables of the installed aiconfigurator-core package and, with --sources, a folder of operator files (see
`perfmodel.profiles.build.files`). Writes one folder per device. When all devices are built, it also writes the learned
interval widths (spread.toml). Equal inputs give equal bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from perfmodel.profiles.build import aiconfigurator, files
from perfmodel.profiles.build.cleaning import misrouted, padded, without_extra
from perfmodel.profiles.build.heldout import Hidden
from perfmodel.profiles.build.spreads import write_spreads
from perfmodel.profiles.build.tables import (
    LEAST_ROWS,
    METHOD,
    METHOD_CLOSED,
    Provenance,
    Trial,
    write_family,
    write_profile,
)
from perfmodel.profiles.importers import SHAPES, Rows, concat

__all__ = ["LEAST_ROWS", "build_files", "build_package", "main", "write_family", "write_profile"]

#: Release year of the package's tables; they do not state when each was measured.
PACKAGE_DATE = "2026"


def package_rows(
    root: Path,
    system: str,
    device: str,
    source: str,
    ledger: list[Trial] | None = None,
    families: frozenset[str] = frozenset(),
    raw: bool = False,
) -> Rows:
    """All rows of one system of aiconfigurator-core, with the versions of each framework merged.

    Args:
        root: folder of the package's data.
        system: name of the system's folder.
        device: hwdb name of the system's device.
        source: text for the source column.
        ledger: list that the residuals of repeated measurements are appended to.
        families: families to read; empty for all.
        raw: keep GEMM times as published, without the corrections of `perfmodel.profiles.build.cleaning`.
    """
    versions: dict[tuple[str, str], list[tuple[str, Rows]]] = {}
    for kind, framework, version, path in aiconfigurator.tables(root, system):
        loaded = aiconfigurator.read_table(
            path, device=device, family=kind, framework=framework, version=version, source=source
        )
        for family in sorted(f for f in set(loaded["family"]) if not families or f in families):
            part = loaded.family(family)
            if family == "grouped_gemm":
                part = part.take(~misrouted(part))
            versions.setdefault((family, framework), []).append((version, part))
            if ledger is not None:
                ledger.append(Trial(device, family, framework, "repeats", repeats(part)))
    parts = []
    for (family, _), found in sorted(versions.items()):
        keys = ("weight", "act", "kv", *SHAPES[family])
        parts.append(aiconfigurator.merged(found, keys, ("weight", "act", "kv")))
    table = concat(parts)
    if raw:
        return table
    gemm = table["family"] == "gemm"
    return concat([table.take(~gemm), without_extra(padded(table.take(gemm)))])


def repeats(table: Rows) -> Hidden:
    """Residuals ln(second time / first time) of the rows of one file that measure the same shape and kernel twice."""
    keys = ("kernel", "weight", "act", "kv", *SHAPES[str(table["family"][0])])
    codes = np.stack([np.unique(table[k], return_inverse=True)[1].reshape(-1) for k in keys], axis=1)
    _, which, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    twice = np.flatnonzero(count[which] == 2)
    pairs = twice[np.argsort(which[twice], kind="stable")].reshape(-1, 2)
    residual = np.log(table["time"][pairs[:, 1]] / table["time"][pairs[:, 0]])
    return Hidden(residual, np.zeros(len(residual), np.int8))


def build_package(
    out: Path,
    only: set[str],
    ledger: list[Trial],
    say: Callable[[str], None] = print,
    families: frozenset[str] = frozenset(),
) -> None:
    """Write the profiles of the installed aiconfigurator-core package.

    only: devices to build; empty for all. families: families to build, other tables are kept; empty for all. ledger:
    list that held-out residuals are appended to. say: prints one progress line per device.
    """
    root, version = aiconfigurator.installed()
    source = f"{aiconfigurator.PACKAGE} {version} (PyPI, github.com/ai-dynamo/aiconfigurator)"
    for system, device in sorted(aiconfigurator.SYSTEMS.items()):
        if only and device not in only:
            continue
        rows = package_rows(root, system, device, source, ledger, families)
        if not len(rows):
            say(f"{device}: the package has no tables of {system}")
            continue
        origin = Provenance(source=source, licence=aiconfigurator.LICENCE, date=PACKAGE_DATE)
        write_profile(rows, out, clean=not families, ledger=ledger, origin=origin)
        say(f"{device}: {len(rows)} rows")


def build_files(
    out: Path, folder: Path, only: set[str], ledger: list[Trial], say: Callable[[str], None] = print
) -> None:
    """Write the profiles of a folder of operator files; arguments as `build_package`.

    Rows whose licence does not allow redistribution are stored as fitted polynomials.
    """
    for rows, closed in ((files.open_rows(folder), False), (files.closed_rows(folder), True)):
        for name in sorted(set(rows["device"])):
            if only and name not in only:
                continue
            mine = rows.take(rows["device"] == name)
            origin = Provenance(method=METHOD_CLOSED if closed else METHOD)
            write_profile(mine, out, closed=closed, ledger=ledger, origin=origin)
            say(f"{name}: {len(mine)} rows{' (coefficients only)' if closed else ''}")


def main(arguments: list[str] | None = None) -> None:
    """Command line of `python -m perfmodel.profiles.build`."""
    parser = argparse.ArgumentParser(prog="python -m perfmodel.profiles.build", description=__doc__)
    parser.add_argument("--sources", type=Path, help="folder of operator files (see docs/profiles.md)")
    parser.add_argument("--only", nargs="*", default=[], help="devices to build (default: all)")
    parser.add_argument(
        "--families", nargs="*", default=[], help="operator families of the package to rebuild; others are kept"
    )
    parser.add_argument("--out", type=Path, default=Path("data/profiles"))
    chosen = parser.parse_args(arguments)
    ledger: list[Trial] = []
    build_package(chosen.out, set(chosen.only), ledger, families=frozenset(chosen.families))
    if chosen.sources:
        build_files(chosen.out, chosen.sources, set(chosen.only), ledger)
    if not chosen.only and not chosen.families:
        write_spreads(chosen.out / "spread.toml", ledger)


if __name__ == "__main__":
    main()
