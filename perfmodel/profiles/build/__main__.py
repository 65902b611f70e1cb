"""Builds the shipped profiles: `python -m perfmodel.profiles.build [--sources DIR] [--only DEVICE ...] [--out DIR]`.

Reads the tables of the installed aiconfigurator-core package and, with --sources, a folder of operator files (see
`perfmodel.profiles.build.files`). Writes one folder per device. When all devices are built, it also writes the learned
interval widths (spread.toml). Equal inputs give equal bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from perfmodel.profiles.build import aiconfigurator, files
from perfmodel.profiles.build.package import package_rows
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

__all__ = ["LEAST_ROWS", "build_files", "build_package", "main", "write_family", "write_profile"]

#: Release year of the package's tables; they do not say when each was measured.
PACKAGE_DATE = "2026"


def build_package(
    out: Path,
    only: set[str],
    ledger: list[Trial],
    say: Callable[[str], None] = print,
    families: frozenset[str] = frozenset(),
) -> None:
    """Write the profiles of the installed aiconfigurator-core package, one folder per device under `out`.

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
    """Write the profiles of the operator files in `folder`; other arguments as `build_package`.

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
    """Run the command line of `python -m perfmodel.profiles.build`."""
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
