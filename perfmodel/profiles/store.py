"""File format of profiles: writing, finding and reading tables.

`data/profiles/<device>/<family>.<framework>.npz` holds the tables of an operator family measured under one serving
framework, one table per variant (number formats). `data/profiles/<device>/run.toml` records the source of each file.
An installed wheel has the same tree in `perfmodel/_profiles`.

Tables store ln(utilisation) as integer multiples of 1/256, differenced along the last axis. The rounding error is at
most 0.2 % for measured cells and 1.6 % for cells filled by interpolation.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import Device, InputError, infile, outfile, tomlfile
from perfmodel.profiles.families import Reference, Variant
from perfmodel.profiles.table import Table, held_past_the_edge

#: Resolution of a stored ln(utilisation). Chosen: finer than the repeatability of measurements.
STEP = 1.0 / 256.0
#: Cells without a measurement are stored in steps this many times larger (3 %). Chosen: they compress better.
COARSE = 8.0
#: Most axes that a table has.
MOST_AXES = 2
#: Most bytes of an npz file, also after unpacking. Chosen: a hundred times the largest that is shipped.
MOST_BYTES = 256 * 2**20
#: Begin of an npy file: magic string with version, bytes of its header; and that string of version 1.0.
_NPY_BEGIN, _NPY_1 = struct.Struct("<8sH"), np.lib.format.magic(1, 0)
#: What reading a damaged npz file raises.
_DAMAGES = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    OverflowError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
)
#: Range of a stored 16-bit integer.
INT16 = np.iinfo(np.int16)
#: Serving frameworks in order of preference when the requested one has no table.
FRAMEWORKS = ("vllm", "sglang", "trtllm")


@dataclass(frozen=True, eq=False)
class Measured:
    """Hold the table of one variant (combination of number formats) of an operator family.

    reference: peak and bandwidths that its bound was computed with. fitted: True if the table holds values of a fitted
    polynomial instead of measurements (sources whose licence does not allow redistribution).
    """

    variant: Variant
    reference: Reference
    table: Table
    fitted: bool = False


@dataclass(frozen=True)
class Profile:
    """List the tables of one device, which are read when asked for.

    run: the parsed run.toml. files: family -> framework -> path of the npz file.
    """

    device: str
    run: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.device, tuple(sorted(str(p) for fs in self.files.values() for p in fs.values()))))

    @cached_property
    def variants(self) -> Mapping[str, tuple[Variant, ...]]:
        """Return the variants of the tables of each family, as run.toml lists them: no table is read."""
        found: dict[str, list[Variant]] = {}
        for entry in self.run["table"]:
            found.setdefault(entry["family"], []).extend(Variant.parse(key) for key in entry["variants"])
        return {family: tuple(variants) for family, variants in found.items()}

    @cached_property
    def listed(self) -> Mapping[str, tuple[Variant, ...]]:
        """Return the variants of the tables of each file, by its name, as run.toml lists them: no table is read.

        Files whose variants it does not list are left out.
        """
        entries = self.run.get("table", [])
        found: dict[str, tuple[Variant, ...]] = {}
        for entry in entries if isinstance(entries, list) else []:
            keys = entry.get("variants") if isinstance(entry, dict) else None
            if isinstance(keys, list) and all(isinstance(key, str) for key in keys):
                found[str(entry.get("file"))] = tuple(map(Variant.parse, keys))
        return found

    def families(self) -> list[str]:
        """Return the operator families that have at least one table, sorted."""
        return sorted(self.files)

    def frameworks(self, family: str, first: str = "") -> list[str]:
        """Return the frameworks that have tables of `family`: `first`, then those of `FRAMEWORKS` in order, then all
        others."""
        have = self.files.get(family, {})
        order = [first, *FRAMEWORKS, *sorted(have)]
        return [f for f in dict.fromkeys(order) if f in have]

    def tables(self, family: str, framework: str) -> tuple[Measured, ...]:
        """Return the tables of one family and framework. Each file is read once per process."""
        path = self.files[family][framework]
        return _read(path, self._digest(path.name))

    def _digest(self, name: str) -> str:
        """Return the sha256 that run.toml records of a file of tables; "" where it records none."""
        entries = self.run.get("table", [])
        listed = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
        return next((str(e.get("sha256", "")) for e in listed if e.get("file") == name), "")


@lru_cache(maxsize=1)
def folders() -> tuple[Path, ...]:
    """Return the existing folders of built-in profiles: that of an installed wheel, that of a source checkout.

    Raises `InputError` where neither is there: without measured tables every estimate would silently be a roofline.
    """
    package = Path(__file__).resolve().parents[1]
    places = (package / "_profiles", package.parent / "data" / "profiles")
    found = tuple(p for p in places if p.is_dir())
    if not found:
        missing = " nor ".join(str(p) for p in places)
        raise InputError(f"no measured tables: neither {missing} is a folder; install perfmodel again, or restore it")
    return found


def beside(device: Device) -> tuple[Path, ...]:
    """Return the existing profile folders that belong to the file `device` was read from: DIR/profiles for
    DIR/devices/x.toml."""
    return () if device.origin is None else _beside(device.origin)


@lru_cache(maxsize=512)
def _beside(origin: Path) -> tuple[Path, ...]:
    """Return the existing profile folders that belong to the device file `origin`."""
    around = origin.parent.parent / "profiles", origin.parent / "profiles"
    return tuple(place for place in around if place.is_dir())


@lru_cache(maxsize=512)
def _read(path: Path, digest: str = "") -> tuple[Measured, ...]:
    """Read all tables of an npz file. digest: sha256 that the file must have; "" for any.

    Raises `InputError` with the path if the file is damaged or is no profile table.
    """
    try:
        raw = infile.read_bytes(path, "profile table", MOST_BYTES)
        if digest and hashlib.sha256(raw).hexdigest() != digest:
            raise ValueError("it has changed since run.toml recorded its sha256")
        arrays = _arrays(raw)
        keys = [str(k) for k in arrays["variants"]]
        return tuple(_unpack(arrays, number, key) for number, key in enumerate(keys))
    except _DAMAGES as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"{path}: not a profile table, or damaged ({reason}); fetch or build it again") from error


def _arrays(raw: bytes) -> dict[str, Any]:
    """Return the arrays of an npz file by name. raw: content of the file. Raises one of `_DAMAGES`."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
        contents = {member.filename.removesuffix(".npy"): archive.read(member) for member in members}
    return {name: _array(content) for name, content in contents.items()}


def _array(content: bytes) -> Any:
    """Return the array of an npy file, not to be written to. content: of the file. Raises one of `_DAMAGES`.

    numpy reads each header as Python text, which takes several times as long as the array: equal headers are read once.
    """
    start = _NPY_BEGIN.size
    magic, size = _NPY_BEGIN.unpack_from(content)
    if magic != _NPY_1:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    shape, by_columns, kind = _npy_header(content[start - 2 : start + size])
    if kind.hasobject:
        raise ValueError("an array holds Python objects")
    return np.frombuffer(content, kind, offset=start + size).reshape(shape, order="F" if by_columns else "C")


@lru_cache(maxsize=4096)
def _npy_header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return (shape, whether columns come first, type) that the header of an npy file states, from its length on."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(text))


def _unpack(arrays: Mapping[str, Any], number: int, key: str) -> Measured:
    """Rebuild one table from the arrays of an npz file; the inverse of `pack`.

    arrays: name -> array. number: position of the table in the file. key: its variant, as `Variant.key` spells it.
    Raises one of `_DAMAGES` where the arrays are not those of a table.
    """

    def part(name: str) -> Any:
        return arrays[f"{number}.{name}"]

    axes = tuple(part(f"axis{a}").astype(float) for a in range(MOST_AXES) if f"{number}.axis{a}" in arrays)
    sites = part("sites").astype(float)
    shape = (len(sites), *(len(a) for a in axes))
    values = np.cumsum(part("values"), axis=-1, dtype=np.int32).astype(np.float32) * np.float32(STEP)
    known = np.unpackbits(part("known"), count=int(np.prod(shape))).astype(bool).reshape(shape)
    scale = part("scale").astype(float)
    held = held_past_the_edge(values.reshape(shape), known)
    table = Table(sites=sites, scale=scale, axes=axes, values=held, known=known)
    peak, bandwidth, link = (float(x) for x in part("reference"))
    _check(table, (peak, bandwidth, link))
    return Measured(
        variant=Variant.parse(key),
        reference=Reference(peak=peak, bandwidth=bandwidth, link=link),
        table=table,
        fitted=bool(arrays.get("fitted", np.zeros(1))[0]),
    )


def _check(table: Table, reference: tuple[float, ...]) -> None:
    """Raise `ValueError` for a table that cannot be read at any size. reference: peak and bandwidths of its device."""
    if table.sites.ndim != 2 or table.scale.shape != table.sites.shape[1:] or not len(table.sites):
        raise ValueError("its sites have another shape than their scale")
    for name, numbers in (("sites", table.sites), ("scale", table.scale)):
        if not np.isfinite(numbers).all():
            raise ValueError(f"its {name} are not finite")
    for axis in table.axes:
        if axis.ndim != 1 or not len(axis) or not (np.isfinite(axis).all() and (np.diff(axis) > 0).all()):
            raise ValueError("an axis does not rise")
    if not all(number > 0 or number != number for number in reference):
        raise ValueError("a peak or bandwidth of its device is not above 0")


def pack(tables: Sequence[Measured]) -> dict[str, np.ndarray]:
    """Turn tables into the arrays of an npz file: `variants` (keys) and, for table i, `i.sites`, `i.scale`, `i.axis0`
    and so on."""
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
        arrays[f"{number}.values"] = np.clip(steps, INT16.min, INT16.max).astype(np.int16)
        arrays[f"{number}.known"] = np.packbits(table.known)
        arrays[f"{number}.reference"] = np.array([item.reference.peak, item.reference.bandwidth, item.reference.link])
    return arrays


def write(folder: Path, family: str, framework: str, tables: Sequence[Measured]) -> tuple[Path, str]:
    """Write the tables of one family and framework into `folder`; return the path and the sha256 of the npz file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{family}.{framework}.npz"
    with outfile.replaced(path) as file:
        np.savez_compressed(file, **pack(tables))  # type: ignore[arg-type]
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=256)
def _profile(device: str, places: tuple[Path, ...]) -> Profile | None:
    """Find the profile of `device` in the first of `places` that has one; None if none has."""
    for place in places:
        folder = place / device
        run = folder / "run.toml"
        if not run.is_file():
            continue
        files: dict[str, dict[str, Path]] = {}
        for path in sorted(folder.glob("*.npz")):
            if path.name.count(".") == 2:  # family.framework.npz
                family, framework, _ = path.name.split(".")
                files.setdefault(family, {})[framework] = path
        return Profile(device, read_toml(run), files)
    return None


def read_toml(path: Path) -> dict[str, Any]:
    """Read the keys and values of a TOML file. Raises `InputError` with the path if it cannot be read."""
    return dict(tomlfile.read_toml(path, "profile's table").values)


def load(device: str, places: Sequence[Path | str] = ()) -> Profile | None:
    """Load the profile of `device`, or return None if there is none. The folders in `places` come before the built-in
    ones."""
    return _profile(device, (*(Path(p) for p in places), *folders()))


def names(places: Sequence[Path | str] = ()) -> list[str]:
    """Return the names of the devices that have a profile, in the folders in `places` or built in, sorted."""
    found = [_names_in(Path(place)) for place in places]  # which may change while this process runs
    return sorted(set().union(*found, _built_in_names()))


@lru_cache(maxsize=1)
def _built_in_names() -> frozenset[str]:
    """Return the names of the devices that have a built-in profile."""
    return frozenset().union(*(_names_in(place) for place in folders()))


def _names_in(folder: Path) -> frozenset[str]:
    """Return the names of the devices that have a profile in a folder."""
    return frozenset(run.parent.name for run in folder.glob("*/run.toml"))
