"""Change figures of devices and nodes: write files of hardware that vary those of the database."""

from __future__ import annotations

import atexit
import math
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from hwdb import Device, Hwdb, InputError, Node, UnknownName, load, nearest
from hwdb.devicefile import FIGURES
from hwdb.links import LINK_FIGURES
from hwdb.nodefile import HOST_FIGURES
from hwdb.record import Record
from hwdb.units import EXAMPLES, UNITS
from search.whatif.edits import WILD, Edit

if TYPE_CHECKING:
    from search.scenario import Scenario

_LINKS = {f"{link}.{key}": unit for link in ("link", "net") for key, unit in LINK_FIGURES.items()}
#: First part of a key that means a file of hardware -> its figures, with what each measures.
HARDWARE: dict[str, dict[str, str]] = {
    "device": {**{f"{group}.{k}": d for group, keys in FIGURES.items() for k, d in keys.items()}, **_LINKS},
    "node": {**{f"host.{key}": unit for key, unit in HOST_FIGURES.items()}, **_LINKS},
}
#: Where the figures of such a file are from.
SOURCE = "a figure that is assumed to be different"
LEAST_PARTS = 3
#: Place of an error in a file that is written here.
_IN_FILE = re.compile(r"^.*\.toml, (?:line \d+, )?")


def write_hardware(scenario: Scenario, edits: Sequence[Edit], told: list[str]) -> Path:
    """Write the devices and nodes of `scenario` with changed figures to a folder of the hardware database; return it.

    edits: each with a key such as `device.h100-sxm.memory.bandwidth` or `node.dgx-h100.host.power`. told: gets what
    each changes, in words. The folder is removed when the program ends.
    """
    found: dict[tuple[str, str], dict[str, tuple[float, str]]] = {}
    causes: dict[tuple[str, str], list[str]] = {}
    for edit in edits:
        kind, figure = edit.path[0], ".".join(edit.path[2:])
        if len(edit.path) < LEAST_PARTS or figure not in HARDWARE[kind]:
            raise InputError(f"{edit.text}: {_unknown(kind, figure)}")
        for owner in _owners(scenario, edit):
            changed = found.setdefault((kind, owner.name), {})
            record = owner.records.get(figure)
            value, unit = _figure(edit, owner.name, record, changed.get(figure), HARDWARE[kind][figure])
            was = "not given" if record is None else f"{record.number:g} {record.unit}"
            told.append(f"{kind}.{owner.name}.{figure}: {was} -> {value:g} {unit}")
            changed[figure] = (value, unit)
            causes.setdefault((kind, owner.name), []).append(edit.text)
    folder = Path(tempfile.mkdtemp(prefix="perfmodel-whatif-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for (kind, name), figures in found.items():
        (folder / f"{kind}s").mkdir(exist_ok=True)
        (folder / f"{kind}s" / f"{name}.toml").write_text(_file(name, figures), encoding="utf-8")
    _check(load((*scenario.offer.folders, folder)), causes)
    return folder


def _check(database: Hwdb, causes: Mapping[tuple[str, str], Sequence[str]]) -> None:
    """Read what was written; an error names the changes of that device or node, not the file that holds them."""
    for (kind, name), changes in causes.items():
        try:
            database.device(name) if kind == "device" else database.node(name)
        except InputError as error:
            raise InputError(f"{' and '.join(changes)}: {_IN_FILE.sub('', str(error))}") from None


def _unknown(kind: str, figure: str) -> str:
    """Say that a figure is not known, and which are similar."""
    near = nearest(figure, HARDWARE[kind]) or list(HARDWARE[kind])[:3]
    return f"{figure!r} is no figure of a {kind}; write {kind}.NAME.FIGURE with a figure such as {', '.join(near)}"


def _owners(scenario: Scenario, edit: Edit) -> list[Device] | list[Node]:
    """Return the devices, or the nodes, on offer that a change means."""
    database, name, kind = scenario.hardware(), edit.path[1], edit.path[0]
    offered = scenario.offer.devices if kind == "device" else scenario.offer.nodes
    if WILD & set(name):
        names = [n for n in offered if fnmatchcase(n, name)]
    else:
        try:
            own = database.device(name).name if kind == "device" else database.node(name).name
        except UnknownName as error:
            raise InputError(f"{edit.text}: {error}") from None
        names = [own] if own in offered else []
    if not names:
        has = ", ".join(offered) or "none"
        raise InputError(f"{edit.text}: {name} is no {kind} on offer, so its figures change nothing; on offer: {has}")
    return [database.device(n) for n in names] if kind == "device" else [database.node(n) for n in names]


def _figure(
    edit: Edit, name: str, record: Record | None, before: tuple[float, str] | None, dimension: str
) -> tuple[float, str]:
    """Return (value, unit) that a change gives a figure.

    record: the figure as it is. before: what an earlier change made of it. dimension: what it measures.
    """
    unit = before[1] if before else record.unit if record is not None else EXAMPLES[dimension]
    if edit.operator == "=":
        value, unit = _quantity(edit, unit, dimension)
    elif before is None and record is None:
        raise InputError(f"{edit.text}: {name} states no such figure; set it with {edit.key}=VALUE, in {unit}")
    else:
        value = edit.of(before[0] if before else record.number if record is not None else 0.0)
    if not 0.0 < value < math.inf:
        raise InputError(f"{edit.text}: {value:g} {unit} is out of range; it must be above 0 and finite")
    return value, unit


def _quantity(edit: Edit, unit: str, dimension: str) -> tuple[float, str]:
    """Return the number and the unit of a value such as 4000, in the unit of the figure, or `4 TB/s`."""
    if isinstance(edit.value, int | float) and not isinstance(edit.value, bool):
        return float(edit.value), unit
    number, _, own = str(edit.value).partition(" ")
    try:
        value = float(number)
    except ValueError:
        raise InputError(f"{edit.text}: {edit.value!r} is no number; write {edit.key}=4000, in {unit}") from None
    if UNITS.get(own.strip(), ("",))[0] != dimension:
        raise InputError(f"{edit.text}: {own.strip()!r} does not measure {dimension}; write it in {unit}")
    return value, own.strip()


def _file(name: str, figures: dict[str, tuple[float, str]]) -> str:
    """Return a file of hardware that is like `name` but for some figures: dotted name -> (value, unit)."""
    groups: dict[str, list[str]] = {}
    for figure, (value, unit) in figures.items():
        group, key = figure.split(".", 1)
        line = f'"{key}" = {{ value = {value!r}, unit = "{unit}", kind = "assumed", source = "{SOURCE}" }}'
        groups.setdefault(group, []).append(line)
    tables = [f"[{group}]\n" + "\n".join(lines) for group, lines in groups.items()]
    return "\n".join([f'like = "{name}"', *tables]) + "\n"
