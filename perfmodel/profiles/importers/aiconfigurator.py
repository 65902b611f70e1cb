"""Imports tables of aiconfigurator-core (Apache-2.0) and of AISimulate, which has the same layout.

The layout is `systems/data/<system>/<family>/<framework>/<version>/<table>_perf.parquet`. The meaning of the columns is
in `perfmodel.profiles.build.aiconfigurator`. This module finds the tables under any folder, or takes a single file,
whose name may contain the folders joined by `__`. It adds power where a table has it, and reports what is missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwdb import InputError
from perfmodel.profiles.build import aiconfigurator as tables
from perfmodel.profiles.importers.rows import Rows, concat


def parts(path: Path) -> list[str]:
    """Split the location of a file into system, topic, framework, version and table, from its name or its folders;
    fewer parts if the path is shorter.

    >>> parts(Path("gb200__gemm__vllm__0.22.0__gemm_perf.parquet"))
    ['gb200', 'gemm', 'vllm', '0.22.0', 'gemm_perf']
    """
    name = path.name.removesuffix(".parquet")
    return name.split("__") if "__" in name else [*path.parts[-5:-1], name]


def files(path: Path) -> list[Path]:
    """Find every table under the folder `path` that can be read; if `path` is a file, only itself."""
    found = [path] if path.is_file() else sorted(path.rglob("*_perf.parquet"))
    return [file for file in found if parts(file)[-1] in tables.TABLES]


def device_of(path: Path) -> str:
    """Return the hwdb name of the device that a table was measured on, from its folders or name; "" if neither names a
    known system."""
    return next((tables.SYSTEMS[part] for part in (*path.parts, *parts(path)) if part in tables.SYSTEMS), "")


def read(path: Path, device: str = "", licence: str = "") -> Rows:
    """Read one table, or all tables of one system under `path`, as canonical rows.

    Raises `InputError` if there is no table, or if there are several systems and `device` does not select one.
    """
    found = files(path)
    if not found:
        raise InputError(f"{path}: no *_perf.parquet table that can be read ({', '.join(sorted(tables.TABLES))})")
    systems = sorted({device_of(file) for file in found} - {""})
    if len(systems) > 1:
        if device not in systems:
            names = ", ".join(systems)
            raise InputError(f"{path}: holds {len(systems)} systems ({names}); say which with --device NAME")
        found = [file for file in found if device_of(file) == device]
    return concat(read_table(file, device or device_of(file), licence) for file in found)


def read_table(path: Path, device: str, licence: str = "") -> Rows:
    """Read one parquet table, measured on `device`. Raises `InputError` if it does not have the known columns."""
    if not device:
        raise InputError(f"{path}: not inside a system folder; say which device was measured with --device NAME")
    place = parts(path)
    framework, version = (*place[-3:-1], "", "")[:2] if len(place) >= 3 else ("", "")
    try:
        table = tables.read_table(
            path,
            device=device,
            family=tables.TABLES[place[-1]],
            framework=framework,
            version=version,
            source=f"{tables.PACKAGE} {'/'.join(place)}",
        )
    except ImportError as error:
        raise InputError(f"{path}: reading parquet needs pyarrow; pip install 'perfmodel[parquet]'") from error
    except KeyError as error:
        raise InputError(f"{path}: no column {error}; the layout of this release is not known") from error
    if licence:
        table = table.replace(licence=licence)
    return _with_watts(table, path)


def _with_watts(table: Rows, path: Path) -> Rows:
    """Add the measured power, in W, to the rows. Only tables of earlier revisions have the column `power`."""
    import pyarrow.parquet as parquet

    if "power" not in parquet.read_schema(path).names:
        return table
    watts = parquet.read_table(path, columns=["power"]).column(0).to_numpy(zero_copy_only=False).astype(float)
    return table.replace(power=np.where(watts > 0.0, watts, np.nan)) if len(watts) == len(table) else table
