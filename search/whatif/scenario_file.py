"""Change keys of a scenario file: each change is found in the file, checked, and read as if it stood there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from hwdb import InputError, UnknownName, nearest
from hwdb.tomlfile import read_toml
from perfmodel import Workload, glossary
from perfmodel.vocabulary import FORMER_NAMES
from search.planning import tariff
from search.scenario import Scenario, load_scenario, with_changes
from search.whatif.edits import WILD, Edit
from search.whatif.hardware_files import HARDWARE, write_hardware

#: Tables whose changes are changes of prices, with the keys that count; () for all.
PRICES = {"hardware": ("usd_per_hour", "prices"), "site": (), "money": ()}
RENT, BOUGHT = ("hardware", "usd_per_hour"), ("money", "own_usd_per_device")
#: Keys of a workload that may be computed from though the file does not state them: they come from its data.
OF_DATA: dict[str, Callable[[Workload, Callable[[Any], Any]], Workload]] = {
    "request_rate_rps": lambda work, of: replace(work, rate=of(work.rate)),
    "input_tokens": lambda work, of: replace(work, input_tokens=of(work.input_tokens)),
    "output_tokens": lambda work, of: replace(work, output_tokens=of(work.output_tokens)),
}
#: Table -> parts of a `Scenario` whose attributes are its keys, with the defaults of those that the file leaves out.
DEFAULTS = {"site": ("site",), "limits": ("limits",), "money": ("money", "money.ownership")}
#: Ways out that messages name.
TAKE_OUT = "KEY= without a value takes a key out"
TOP = "a key of a scenario is TABLE.KEY"


@dataclass
class ScenarioFile:
    """A scenario file whose keys are changed.

    path: of the file. folders: of the hardware database, besides those that it names. scenario: as the file says it.
    """

    path: Path
    folders: tuple[str | Path, ...] = ()
    scenario: Scenario = field(init=False)

    def __post_init__(self) -> None:
        self.scenario = load_scenario(self.path, self.folders)
        self._values: dict[str, Any] = with_changes(read_toml(self.path, "scenario", FORMER_NAMES).values, {})

    def changed(self, edits: Sequence[Edit]) -> tuple[Scenario, list[str]]:
        """Return the scenario with `edits`, in their order, and what they change, in words: `slo.ttft_ms: 500 -> 300`.

        Raises `InputError` that names the change for a key that is not known and a value that is not possible.
        """
        values, told = deepcopy(self._values), list[str]()
        later: list[Callable[[Scenario], Scenario]] = []
        files: list[Edit] = []
        for edit in edits:
            if edit.path[0] in HARDWARE:
                files.append(edit)
                continue
            for path in self._meant(edit, values):
                after = self._apply(replace(edit, path=path), values, told)
                later += [after] if after is not None else []
        scenario = self._read(values, edits, self.folders)
        if files:
            folder = write_hardware(scenario, files, told)
            scenario = self._read(values, edits, (*self.folders, folder))
        for change in later:
            scenario = change(scenario)
        return self._as_prices(scenario, edits), told

    def _read(self, values: dict[str, Any], edits: Sequence[Edit], folders: Iterable[str | Path]) -> Scenario:
        """Read the scenario that `values` describe; an error names the changes."""
        tables = {
            name: {**dict.fromkeys(self._values.get(name, {})), **content}
            for name, content in values.items()
            if self._values.get(name) != content
        }
        try:
            return load_scenario(self.path, folders, tables)
        except InputError as error:
            way_out = f" ({TAKE_OUT})" if "give one" in str(error) or "give exactly one" in str(error) else ""
            raise InputError(f"with {' and '.join(e.text for e in edits)}: {error}{way_out}") from None

    def _as_prices(self, scenario: Scenario, edits: Sequence[Edit]) -> Scenario:
        """Return the scenario with all that is not changed taken from that of the file, where prices alone are."""
        if not edits or not all(_is_price(edit.path) for edit in edits):
            return scenario
        own = self.scenario
        offer = replace(own.offer, usd_per_hour=scenario.offer.usd_per_hour, prices=scenario.offer.prices)
        return replace(own, offer=offer, site=scenario.site, money=scenario.money)

    def _meant(self, edit: Edit, values: dict[str, Any]) -> list[tuple[str, ...]]:
        """Return the keys that a change means, by their full paths: several where its key is a pattern."""
        if len(edit.path) < 2:
            raise InputError(f"{edit.text}: {TOP}{_homes(edit.path[0])}")
        paths: list[tuple[str, ...]] = [()]
        for part in edit.path:
            paths = [(*path, name) for path in paths for name in self._names(edit, path, part, values)]
        return paths

    def _names(self, edit: Edit, path: tuple[str, ...], part: str, values: dict[str, Any]) -> list[str]:
        """Return the names that a part of a key means below `path`: itself, or those that match its pattern."""
        if not WILD & set(part):
            return [self._device(part) if path in (RENT, BOUGHT) else part]
        known = [str(k) for k in _at(values, path)]
        if path in (RENT, BOUGHT):
            known += self.scenario.offer.devices
        found = [name for name in dict.fromkeys(known) if fnmatchcase(name, part)]
        if not found:
            place = f"[{'.'.join(path)}]" if path else "the scenario"
            raise InputError(f"{edit.text}: nothing in {place} matches {part!r}; it has {', '.join(known) or 'no key'}")
        return found

    def _device(self, name: str) -> str:
        """Return the name of a device in the database; a name of a fleet option's own device stays."""
        try:
            return self.scenario.hardware().device(name).name
        except UnknownName:
            return name

    def _apply(self, edit: Edit, values: dict[str, Any], told: list[str]) -> Callable[[Scenario], Scenario] | None:
        """Apply a change to `values` and add what it does to `told`.

        Returns what is left to be changed of the scenario that is read, None where nothing is.
        """
        *above, key = edit.path
        table = _table(edit, values, above)
        present = table.get(key) if isinstance(table, dict) else table[int(key)]
        if edit.operator == "=":
            new: Any = edit.raw if meant_as_text(edit, present) else edit.value
        else:
            if present is None:
                present = self._known(edit)
            if present is None:
                return self._of_data(edit, told)
            new = _computed(edit, present)
        told.append(f"{edit.key}: {_shown(present)} -> {_shown(new)}")
        if new is None and isinstance(table, dict):
            table.pop(key, None)
        else:
            table[key if isinstance(table, dict) else int(key)] = new
        return None

    def _known(self, edit: Edit) -> float | None:
        """Return the present value of a key that the file leaves out; None where there is none."""
        s, path, key = self.scenario, edit.path[:-1], edit.path[-1]
        if path == RENT:
            if key in s.money.bought:
                raise InputError(f"{edit.text}: {key} is owned; its price is money.own_usd_per_device.{key}")
            offer = s.offer
            usd = float(tariff(s.hardware(), (key,), offer.nodes, offer.prices, offer.usd_per_hour).usd_per_hour[0])
            if not np.isfinite(usd):
                raise InputError(f"{edit.text}: no price is known for {key}; set it with {'.'.join(edit.path)}=USD")
            return usd
        for part in DEFAULTS.get(path[0], ()) if len(path) == 1 else ():
            owner: Any = s
            for name in part.split("."):
                owner = getattr(owner, name)
            value = getattr(owner, key, None)
            if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
                return float(value)
        return None

    def _of_data(self, edit: Edit, told: list[str]) -> Callable[[Scenario], Scenario]:
        """Return what changes a figure that the scenario takes from its data, such as the lengths of a data set."""
        request = self.scenario.request
        change = OF_DATA.get(edit.path[-1]) if edit.path[:-1] == ("workload",) else None
        rate = edit.path[-1] == "request_rate_rps"
        if change is None or request is None or (rate and not np.isfinite(request.workload.rate)):
            raise InputError(
                f"{edit.text}: {self.path} does not state {edit.key}, so that nothing is known to change; "
                f"set it with {edit.key}=VALUE"
            )
        told.append(f"{edit.key}: those of the data {edit.operator.removesuffix('=')} {_shown(edit.value)}")

        def changed(s: Scenario) -> Scenario:
            """Return the scenario with its workload changed."""
            if s.request is None:
                return s
            work = change(s.request.workload, lambda present: _any_of(edit, present))
            return replace(s, request=replace(s.request, workload=work))

        return changed


def _any_of(edit: Edit, present: Any) -> Any:
    """Return what becomes of a number or an array of numbers above 0."""
    new = np.vectorize(edit.of)(present)
    if not (new > 0).all():
        raise InputError(f"{edit.text}: {edit.key} would be {float(np.min(new)):g}; it must be above 0")
    return new if isinstance(present, np.ndarray) else float(new)


def _is_price(path: tuple[str, ...]) -> bool:
    """Return True where a key says what hardware or electricity costs or emits, and nothing else."""
    keys = PRICES.get(path[0])
    return keys is not None and (not keys or path[1] in keys)


def _at(values: Any, path: Sequence[str]) -> list[Any]:
    """Return the keys (or the positions) below a path; [] where there is nothing."""
    for part in path:
        if isinstance(values, dict):
            values = values.get(part, {})
        elif isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        else:
            return []
    return list(values) if isinstance(values, dict) else list(range(len(values))) if isinstance(values, list) else []


def _table(edit: Edit, values: dict[str, Any], above: Sequence[str]) -> Any:
    """Return the table, or the list, that a change goes into; tables that the file does not have are made."""
    here: Any = values
    for at, part in enumerate(above):
        name = ".".join(above[: at + 1])
        if isinstance(here, list):
            if not part.isdigit() or int(part) >= len(here):
                raise InputError(f"{edit.text}: {name} is no entry; count the entries from 0 to {len(here) - 1}")
            here = here[int(part)]
        else:
            here = here.setdefault(part, {})
        if not isinstance(here, dict | list):
            raise InputError(f"{edit.text}: {name} is {_shown(here)} and has no keys; set {name} itself")
    last = edit.path[-1]
    if isinstance(here, list) and not (last.isdigit() and int(last) < len(here)):
        raise InputError(f"{edit.text}: {last} is no entry; count the entries from 0 to {len(here) - 1}")
    return here


def _computed(edit: Edit, present: Any) -> Any:
    """Return what becomes of the present value: of a list, of each of its numbers."""
    items = present if isinstance(present, list) else [present]
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in items) or not items:
        raise InputError(f"{edit.text}: {edit.key} is {_shown(present)}, which is no number; set it with {edit.key}=")
    whole = all(isinstance(v, int) for v in items)
    new = [edit.of(float(v)) for v in items]
    new = [int(v) if whole and v == int(v) else v for v in new] if all(map(np.isfinite, new)) else new
    return new if isinstance(present, list) else new[0]


def meant_as_text(edit: Edit, present: Any) -> bool:
    """Return True where a value that looks like a number or switch is meant as text, as in `engine.version=0.8`."""
    if isinstance(edit.value, str | list | dict) or edit.value is None:
        return False
    place, key = f"[{'.'.join(edit.path[:-1])}]", edit.path[-1]
    units = {e.unit for e in glossary.entries() if e.name == key and place in e.places}
    return units == {"text"} or isinstance(present, str)


def _homes(key: str) -> str:
    """Say which tables have a key, or which are similar, after the form of a key was stated."""
    known = {(e.name, place.strip("[]")) for e in glossary.entries() for place in e.places if place.startswith("[")}
    homes = sorted(f"{table}.{name}" for name, table in known if name == key)
    if homes:
        return f"; {key!r} is {' or '.join(homes)}"
    near = nearest(key, {name for name, _ in known})
    alike = sorted({f"{table}.{name}" for name, table in known if name in near})
    return f"; did you mean {' or '.join(alike)}?" if alike else ", such as slo.ttft_ms_p95"


def _shown(value: Any) -> str:
    """Return a value in words."""
    if value is None:
        return "not given"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
