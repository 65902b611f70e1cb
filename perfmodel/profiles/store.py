"""Where tables lie on disk, and how they are written and read.

`data/profiles/<device>/<family>.<framework>.npz` holds every variant of a family as measured under a serving framework;
`data/profiles/<device>/run.toml` says of each where it comes from. In a wheel the same tree is `perfmodel/_profiles`.
Values are stored as differences along the last axis of ln(utilisation) in steps of 1/256 (0.2 % off at most;
cells filled in between measurements 1.6 %).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import Device, InputError, tomlfile
from perfmodel.profiles.families import Reference, Variant
from perfmodel.profiles.table import Table

#: Resolution of a stored ln(utilisation).
STEP = 1.0 / 256.0
#: Cells that hold no measurement are stored this much coarser (3 %): they compress better.
COARSE = 8.0
#: Serving frameworks in the order in which they stand in for each other.
FRAMEWORKS = ("vllm", "sglang", "trtllm")


@dataclass(frozen=True, eq=False)
class Measured:
    """One variant's table and the constants it is relative to; `fitted` if it holds a surface and no measurement."""

    variant: Variant
    reference: Reference
    table: Table
    fitted: bool = False


@dataclass(frozen=True)
class Profile:
    """Tables of one device: `run` is the parsed run.toml, `files` family -> framework -> npz path."""

    device: str
    run: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.device, tuple(sorted(str(p) for fs in self.files.values() for p in fs.values()))))

    def families(self) -> list[str]:
        """Families with at least one table."""
        return sorted(self.files)

    def frameworks(self, family: str, first: str = "") -> list[str]:
        """Frameworks that have tables of `family`, `first` first, then in the order of `FRAMEWORKS`, then the rest."""
        have = self.files.get(family, {})
        order = [first, *FRAMEWORKS, *sorted(have)]
        return [f for f in dict.fromkeys(order) if f in have]

    def tables(self, family: str, framework: str) -> tuple[Measured, ...]:
        """Tables of one family and framework; read once a process."""
        return _read(self.files[family][framework])


@lru_cache(maxsize=1)
def folders() -> tuple[Path, ...]:
    """Built-in places: the package's own copy in a wheel, the tree of a checkout. Those that exist."""
    package = Path(__file__).resolve().parents[1]
    return tuple(p for p in (package / "_profiles", package.parent / "data" / "profiles") if p.is_dir())


def beside(device: Device) -> tuple[Path, ...]:
    """Places of profiles that belong to the folder a device was read from (DIR/devices/x.toml: DIR/profiles)."""
    if device.origin is None:
        return ()
    around = (device.origin.parent.parent / "profiles", device.origin.parent / "profiles")
    return tuple(place for place in around if place.is_dir())


@lru_cache(maxsize=512)
def _read(path: Path) -> tuple[Measured, ...]:
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a profile table ({error}); build it again") from error
    keys = [str(k) for k in arrays["variants"]]
    return tuple(_unpack(arrays, number, key) for number, key in enumerate(keys))


def _unpack(arrays: Mapping[str, Any], number: int, key: str) -> Measured:
    def part(name: str) -> Any:
        return arrays[f"{number}.{name}"]

    axes = tuple(part(f"axis{a}").astype(float) for a in range(2) if f"{number}.axis{a}" in arrays)
    sites = part("sites").astype(float)
    shape = (len(sites), *(len(a) for a in axes))
    values = np.cumsum(part("values"), axis=-1, dtype=np.int32).astype(np.float32) * np.float32(STEP)
    known = np.unpackbits(part("known"), count=int(np.prod(shape))).astype(bool).reshape(shape)
    table = Table(sites, part("scale").astype(float), axes, values.reshape(shape), known)
    constants = Reference(*(float(x) for x in part("reference")))
    return Measured(Variant.parse(key), constants, table, bool(arrays.get("fitted", np.zeros(1))[0]))


def pack(tables: Sequence[Measured]) -> dict[str, np.ndarray]:
    """Arrays of an npz file."""
    arrays: dict[str, np.ndarray] = {"variants": np.array([t.variant.key for t in tables])}
    if any(t.fitted for t in tables):
        arrays["fitted"] = np.ones(1, np.uint8)
    for number, item in enumerate(tables):
        table = item.table
        coarse = np.where(table.known, STEP, STEP * COARSE)
        steps = np.rint(table.values.astype(float) / coarse) * np.where(table.known, 1.0, COARSE)
        steps = np.diff(steps, axis=-1, prepend=0.0)
        arrays[f"{number}.sites"] = table.sites.astype(np.float32)
        arrays[f"{number}.scale"] = table.scale.astype(np.float32)
        for axis, grid in enumerate(table.axes):
            arrays[f"{number}.axis{axis}"] = grid.astype(np.float32)
        arrays[f"{number}.values"] = np.clip(steps, -32768, 32767).astype(np.int16)
        arrays[f"{number}.known"] = np.packbits(table.known)
        arrays[f"{number}.reference"] = np.array([item.reference.peak, item.reference.bandwidth, item.reference.link])
    return arrays


def write(folder: Path, family: str, framework: str, tables: Sequence[Measured]) -> tuple[Path, str]:
    """Write one npz; returns its path and sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{family}.{framework}.npz"
    np.savez_compressed(path, **pack(tables))  # type: ignore[arg-type]
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=256)
def _profile(device: str, places: tuple[Path, ...]) -> Profile | None:
    for place in places:
        folder = place / device
        run = folder / "run.toml"
        if not run.is_file():
            continue
        files: dict[str, dict[str, Path]] = {}
        for path in sorted(folder.glob("*.npz")):
            if path.name.count(".") == 2:
                family, framework, _ = path.name.split(".")
                files.setdefault(family, {})[framework] = path
        return Profile(device, read_toml(run), files)
    return None


def read_toml(path: Path) -> dict[str, Any]:
    """Keys and values of a TOML file, or `InputError` that names it."""
    return dict(tomlfile.read_toml(path, "profile's table").values)


def load(device: str, places: Sequence[Path | str] = ()) -> Profile | None:
    """The profile of `device`: from the given folders first, then from the built-in ones; None where there is none."""
    return _profile(device, (*(Path(p) for p in places), *folders()))


def names(places: Sequence[Path | str] = ()) -> list[str]:
    """Devices that have a profile."""
    every = [*(Path(p) for p in places), *folders()]
    return sorted({run.parent.name for place in every for run in place.glob("*/run.toml")})
