"""Read all tables of one system of aiconfigurator-core: corrected, with the versions of each framework merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perfmodel.profiles.build import aiconfigurator
from perfmodel.profiles.build.cleaning import misrouted, padded, without_extra
from perfmodel.profiles.build.heldout import Hidden
from perfmodel.profiles.build.tables import Trial
from perfmodel.profiles.importers import SHAPES, Rows, concat


def package_rows(
    root: Path,
    system: str,
    device: str,
    source: str,
    ledger: list[Trial] | None = None,
    families: frozenset[str] = frozenset(),
    raw: bool = False,
) -> Rows:
    """Read all rows of one system of aiconfigurator-core, with the versions of each framework merged.

    Args:
        root, system: folder of the package's data; name of the system's folder in it.
        device: hwdb name of the system's device.
        source: text for the source column.
        ledger: list that the residuals of repeated measurements are appended to.
        families: families to read; empty for all.
        raw: keep GEMM times as published, without the corrections of `perfmodel.profiles.build.cleaning`.
    """
    versions: dict[tuple[str, str, str], list[tuple[str, Rows]]] = {}
    for kind, framework, version, path in aiconfigurator.tables(root, system):
        loaded = aiconfigurator.read_table(
            path, device=device, family=kind, framework=framework, version=version, source=source
        )
        for family in sorted(f for f in set(loaded["family"]) if not families or f in families):
            part = loaded.family(family)
            wide = path.stem if path.stem.startswith(aiconfigurator.WIDE) else ""
            if family == "grouped_gemm" and not wide:
                part = part.take(~misrouted(part))
            versions.setdefault((family, framework, wide), []).append((version, part))
            if ledger is not None:
                ledger.append(Trial(device, family, framework, "repeats", repeats(part)))
    formats = ("weight", "act", "kv")
    parts = (
        aiconfigurator.merged(found, (*formats, *SHAPES[family]), formats)
        for (family, _, _), found in sorted(versions.items())
    )
    table = concat(parts)
    gemm = table["family"] == "gemm"
    return table if raw else concat([table.take(~gemm), without_extra(padded(table.take(gemm)))])


def repeats(table: Rows) -> Hidden:
    """Compare repeated measurements of one file: ln(second time / first time) where shape and kernel are equal."""
    keys = ("kernel", "weight", "act", "kv", *SHAPES[str(table["family"][0])])
    codes = np.stack([np.unique(table[k], return_inverse=True)[1].reshape(-1) for k in keys], axis=1)
    _, which, count = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    twice = np.flatnonzero(count[which] == 2)
    pairs = twice[np.argsort(which[twice], kind="stable")].reshape(-1, 2)
    residual = np.log(table["time"][pairs[:, 1]] / table["time"][pairs[:, 0]])
    return Hidden(residual, np.zeros(len(residual), np.int8))
