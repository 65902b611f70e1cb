"""Turn measured rows into a folder for `--hwdb`: a device file with measured ceilings, and a profile.

DIR/devices/NAME.toml describes the machine; DIR/profiles/NAME/ has its tables. A ceiling is the best rate that was
measured. Rows of whole models (llama-bench) give ceilings but no tables.

If the machine is a device that hwdb knows (`like`), its rated values are kept and the measured ceilings are added.
Otherwise the measured ceilings stand in for rated values, and each of them carries a note that says so.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hwdb
from hwdb import Device, InputError, outfile
from hwdb.devicefile import PEAKS
from perfmodel import equations
from perfmodel.arrays import NAN
from perfmodel.profiler import card as cards
from perfmodel.profiler.card import Card
from perfmodel.profiles import FAMILY
from perfmodel.profiles.build import Provenance, runfile, write_family
from perfmodel.profiles.importers import Checked, Rows, check, plain

#: Name of the measurement in [sources] of the device file.
RUN = "run"
#: Only streams of at least this share of the largest stream's bytes give the bandwidth ceiling; smaller ones may be
#: served from a cache. Chosen.
LARGEST_SHARE = 0.25
#: Kernels of the profiler that do not represent an operator: copies with fewer threads, repeated launches.
SIDE = re.compile(r" t\d+$|launch$")
#: Names that llama.cpp gives to mixture-of-experts models ("8x7B", "30B.A3B", "MoE"). These read only a part of their
#: weights per token.
MIXTURE = re.compile(r"\d+x\d|A\d+(\.\d+)?B|moe|deepseek|gpt-oss", re.IGNORECASE)
#: What run.toml records about how the tables were measured.
ORIGIN = Provenance(method="measured with perfmodel profile run: warm-up, caches flushed before each repeat, median")
#: Family -> operator class of a measured power.
WATTS = {"gemm": "gemm", "attention_prefill": "prefill_attention", "attention_decode": "decode_attention"}


@dataclass(frozen=True)
class Fit:
    """Hold the result of `fit`: where the device was written to, and what was measured.

    folder: the folder for --hwdb. device: name of the device. ceilings: name in the device file -> value in SI units.
    checked: rows that were used and rows set aside. tables: one entry per family and library, as in run.toml.
    """

    folder: Path
    device: str
    ceilings: dict[str, float]
    checked: Checked
    tables: tuple[dict[str, Any], ...]

    def notes(self) -> list[str]:
        """Return the ceilings as text, and the reasons for which rows were set aside."""
        reached = [f"{key}: {_printed(key, value)}" for key, value in self.ceilings.items()]
        return [*reached, *(f"set aside: {q.reason} ({q.count})" for q in self.checked.quarantined)]

    def rows(self) -> list[dict[str, object]]:
        """Return one flat row per table."""
        return [
            {
                "device": self.device,
                "family": t["family"],
                "framework": t["framework"],
                "rows": t["rows"],
                "sites": t["sites"],
                "formats": " ".join(t["variants"]),
                "held_out_median_percent": _percent(t["held_out"].get("points_median")),
            }
            for t in self.tables
        ]


def _unit(key: str) -> tuple[str, float]:
    """Return the unit in which the ceiling `key` is printed, and the value of that unit in SI units."""
    if key.startswith("power."):
        return "W", 1.0
    return ("GFLOP/s", 1e9) if key.startswith("gemm.") else ("GB/s", 1e9)


def _printed(key: str, value: float) -> str:
    """Format the ceiling `key` (value in SI units) with its unit."""
    unit, factor = _unit(key)
    return f"{value / factor:.4g} {unit}"


def gigabytes(value: float | None) -> float:
    """Convert GB (10^9 bytes) to bytes; NaN for None.

    >>> gigabytes(16.0)
    16000000000.0
    """
    return NAN if value is None else value * 1e9


def _percent(share: float | None) -> float:
    """Convert a share to percent; NaN for None."""
    return NAN if share is None else 100.0 * share


def fit(path: Path, *, device: str, out: Path, like: str = "", memory: float = NAN) -> Fit:
    """Turn the plain CSV at `path` into a device file and a profile under `out`.

    device: name of the new device. like: hwdb name of the same device, "" if hwdb does not know it. memory: bytes of
    memory, for a file without a machine card. Raises `InputError` for unusable rows, or if the memory is not known from
    a card, `like` or `memory`.
    """
    _valid(device)
    known = hwdb.load()
    facts = known.device(like) if like else None
    table = plain.read(path).replace(device=device)
    checked = check(table, None if facts is None else lambda _: facts, str(path))
    ceilings = measured_ceilings(checked.rows)
    if not ceilings:
        raise InputError(f"{path}: no GEMM, element-wise or model_decode row among {len(table)} rows: nothing to fit")
    card = cards.read(path)
    text = device_file(device, ceilings, like=like, card=card, memory=memory, source=_source(checked.rows, card))
    target = out / "devices" / f"{device}.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    outfile.write_text(target, text)
    made = hwdb.Hwdb((*known.folders, out)).device(device)  # not `load`, which caches folders
    return Fit(out, device, ceilings, checked, tuple(_tables(checked.rows, made, out / "profiles" / device)))


def _valid(name: str) -> None:
    """Raise `InputError` unless `name` can be part of a file name."""
    if not name or not all(c.isalnum() or c in "-._" for c in name) or name[0] in "-._":
        raise InputError(f"device name {name!r}: use letters, digits and dashes, as in 'my-epyc-9654'")


def measured_ceilings(rows: Rows) -> dict[str, float]:
    """Return the measured ceilings of a device: name in the device file -> value in SI units.

    These are the best GEMM rate of each compute type, the best memory bandwidth of operators larger than the caches,
    and the median power, in W, of each operator class that was measured.
    """
    out: dict[str, float] = {}
    gemm = rows.family("gemm")
    rate = equations.gemm_flop(gemm["m"], gemm["n"], gemm["k"]) / gemm["time"]
    for act in sorted(set(gemm["act"]) & set(PEAKS)):
        out[f"gemm.{act}"] = float(rate[gemm["act"] == act].max())
    stream = operators(rows.family("elementwise"))
    if len(stream):
        large = stream["moved_bytes"] >= LARGEST_SHARE * stream["moved_bytes"].max()
        out["memory_bandwidth"] = float((stream["moved_bytes"] / stream["time"])[large].max())
    whole = rows.family("model_decode")
    dense = np.array([MIXTURE.search(str(kernel)) is None for kernel in whole["kernel"]], dtype=bool)
    if dense.any():  # a decode step of a dense model reads each weight once
        reached = float((whole["moved_bytes"] / whole["time"])[dense].max())
        out["memory_bandwidth"] = max(reached, out.get("memory_bandwidth", 0.0))
    for family, name in WATTS.items():
        watts = rows.family(family)["power"]
        if np.isfinite(watts).any():
            out[f"power.{name}"] = float(np.nanmedian(watts))
    return out


def operators(rows: Rows) -> Rows:
    """Leave out the rows of kernels that represent no operator (`SIDE`)."""
    aside = [SIDE.search(str(kernel)) is not None for kernel in rows["kernel"]]
    return rows.take(~np.array(aside, dtype=bool)) if len(rows) else rows


def _source(rows: Rows, card: Card | None) -> str:
    """Return the source of the measured values as text: that of the rows, and the machine."""
    named = "; ".join(sorted(set(rows["source"])))
    return f"{named} on {card.title}, {card.software}" if card else named


def _record(value: float, unit: str, note: str = "") -> str:
    """Spell a measured value as an inline table of TOML."""
    text = f'{{ value = {value:.9g}, unit = "{unit}", kind = "measured", source = "{RUN}"'
    return text + (f", note = {json.dumps(note)} }}" if note else " }")


def device_file(
    name: str, ceilings: dict[str, float], *, like: str, card: Card | None, memory: float, source: str
) -> str:
    """Return the text of the device file.

    memory: bytes, NaN to use those of the machine card. source: text for [sources]. Others as in `fit`.
    """
    lines = [f'like = "{like}"'] if like else []
    title = card.title if card else name
    lines.append(f"title = {json.dumps(title, ensure_ascii=False)}")
    if not like:
        lines += _description(card)
    lines += ["", "[sources]", f"{RUN} = {json.dumps(source, ensure_ascii=False)}"]
    if not like:
        lines += _own(ceilings, card, memory)
    lines += ["", "[measured]"]
    for key, value in ceilings.items():
        unit, factor = _unit(key)
        lines.append(f'"{key}" = {_record(value / factor, unit)}')
    return "\n".join(lines) + "\n"


def _description(card: Card | None) -> list[str]:
    """Return the lines with vendor, architecture and kind of a machine that hwdb does not know."""
    kind, vendor = (card.kind, card.vendor) if card else ("cpu", "unknown")
    return [f'vendor = "{vendor}"', 'arch = "as measured"', f'kind = "{kind}"']


def _own(ceilings: dict[str, float], card: Card | None, memory: float) -> list[str]:
    """Return the sections of a machine that hwdb does not know, with measured values in place of rated ones.

    memory: bytes, NaN to use those of the machine card. Raises `InputError` if memory size or bandwidth is not known.
    """
    capacity = memory if memory == memory else card.memory_bytes if card else NAN
    if capacity != capacity:
        raise InputError("the memory of the measured machine is not known: give --like DEVICE or --memory-gb N")
    if "memory_bandwidth" not in ceilings:
        raise InputError("no element-wise rows: without a stream the memory bandwidth is not known; measure one")
    lines = ["", "[peak]"]
    stands = "best GEMM measured; the rated peak is not known"
    for key, value in ceilings.items():
        if key.startswith("gemm."):
            lines.append(f"{key.removeprefix('gemm.')} = {_record(value / 1e9, 'GFLOP/s', stands)}")
    lines += ["", "[memory]", f"capacity = {_record(capacity / 1e9, 'GB')}"]
    stands = "best stream measured; the rated bandwidth is not known"
    lines.append(f"bandwidth = {_record(ceilings['memory_bandwidth'] / 1e9, 'GB/s', stands)}")
    if card and card.cache_bytes == card.cache_bytes:
        lines.append(f"l2 = {_record(card.cache_bytes / 1e6, 'MB')}")
    if card:
        lines += ["", "[chip]", f"cores = {_record(card.cores, '1')}"]
    if card and card.tdp_w == card.tdp_w:
        lines += ["", "[power]", f"tdp = {_record(card.tdp_w, 'W')}"]
    return lines


def _tables(rows: Rows, device: Device, folder: Path) -> list[dict[str, Any]]:
    """Write the tables of every family and library into `folder`; return their entries in run.toml."""
    entries = []
    for family in sorted(set(rows["family"]) & set(FAMILY)):
        part = operators(rows.family(family))
        libraries = np.array([str(s).partition(" ")[0].lower() or "own" for s in part["software"]])
        for library in sorted(set(libraries)):
            entry = write_family(part.take(libraries == library), device, str(library), folder, origin=ORIGIN)
            if entry:
                entries.append(entry)
    if not entries:
        return []
    runfile.update(folder / "run.toml", device.name, entries)
    return entries
