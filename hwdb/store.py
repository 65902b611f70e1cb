"""Finding and reading the files: the built-in ones, the user's own folder, then folders given by name.

A folder holds `devices/`, `nodes/` and `prices/`, or plain files whose `type` key says which of the three they
are. A device or node is called like its file. A later folder replaces what an earlier one says under the same
name; `like = "h100-sxm"` in a file starts from that device or node and changes only what the file gives.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hwdb.devicefile import CEILINGS, Device, read_device, varied
from hwdb.errors import InputError, UnknownName
from hwdb.nodefile import Node, read_node
from hwdb.pricefile import Price, read_prices
from hwdb.table import Table, parse

_BUILT_IN = Path(__file__).parent
_TYPES = {"device": "devices", "node": "nodes", "prices": "prices"}


class Hwdb:
    """The database of the given folders, later ones first. Files are read when somebody asks for them."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._files: dict[str, dict[str, list[Path]]] = {part: {} for part in _TYPES.values()}
        for folder in self.folders:
            for part, path in _files(folder):
                self._files[part].setdefault(path.stem, []).append(path)
        self._devices: dict[str, Device] = {}
        self._nodes: dict[str, Node] = {}
        self._prices: list[Price] | None = None

    def names(self) -> list[str]:
        """Names of all devices, sorted."""
        return sorted(self._files["devices"])

    def node_names(self) -> list[str]:
        """Names of all nodes, sorted."""
        return sorted(self._files["nodes"])

    def device(self, name: str) -> Device:
        """The device called `name`; `UnknownName` with the nearest names, `InputError` for a bad file."""
        if name not in self._devices:
            self._devices[name] = self._device(self._path("device", name), ())
        return self._devices[name]

    def devices(self) -> list[Device]:
        """All devices, sorted by name."""
        return [self.device(name) for name in self.names()]

    def node(self, name: str) -> Node:
        """The node called `name`; `UnknownName` with the nearest names, `InputError` for a bad file."""
        if name not in self._nodes:
            table = self._table("node", name)
            node = read_node(name, table)
            if node.device not in self._files["devices"]:
                raise InputError(f"{table.path}: device: {UnknownName('device', node.device, self.names())}")
            self._nodes[name] = node
        return self._nodes[name]

    def nodes(self, device: str | None = None) -> list[Node]:
        """All nodes, or those that hold `device`, sorted by name."""
        found = [self.node(name) for name in self.node_names()]
        return [node for node in found if device in (None, node.device)]

    def prices(self, device: str | None = None) -> list[Price]:
        """All prices, or those of one device, in the order of the files."""
        if self._prices is None:
            self._prices = list(self._read_prices())
        return [price for price in self._prices if device in (None, price.device)]

    def _read_prices(self) -> Iterable[Price]:
        for name in sorted(self._files["prices"]):
            path = self._files["prices"][name][-1]
            for price in read_prices(Table(path, parse(path))):
                if price.device not in self._files["devices"]:
                    raise InputError(f"{path}: price: {UnknownName('device', price.device, self.names())}")
                if price.node and price.node not in self._files["nodes"]:
                    raise InputError(f"{path}: price: {UnknownName('node', price.node, self.node_names())}")
                yield price

    def _device(self, path: Path, seen: tuple[Path, ...]) -> Device:
        """The device of one file, as a variant of the one it is `like` or replaces."""
        own = parse(path)
        device = read_device(path.stem, Table(path, self._whole("device", path, own, ())))
        if "like" in own:
            under = self._under("device", path, str(own["like"]), seen)
            return varied(device, self._device(under, (*seen, path)), _stated(own))
        base = self._replaced(path)
        if base is None:
            return device
        # a ceiling copied from the file that this one replaces was measured at that file's rated figure
        own_ceilings = {c for c in CEILINGS.values() if device.records.get(c) != base.records.get(c)}
        return varied(device, base, own_ceilings)

    def _replaced(self, path: Path) -> Device | None:
        """The device of the same name in an earlier folder; None where there is none, or none that can be read."""
        known = self._files["devices"][path.stem]
        earlier = known[: known.index(path)]
        try:
            return self._device(earlier[-1], ()) if earlier else None
        except InputError:
            return None

    def _table(self, what: str, name: str) -> Table:
        path = self._path(what, name)
        return Table(path, self._content(what, path, ()))

    def _path(self, what: str, name: str) -> Path:
        """The file that describes `name`: of several the last."""
        known = self._files[_TYPES[what]]
        if name not in known:
            raise UnknownName(what, name, known)
        return known[name][-1]

    def _content(self, what: str, path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
        """The content of a file on top of the one that it is `like`."""
        return self._whole(what, path, parse(path), seen)

    def _whole(self, what: str, path: Path, own: dict[str, Any], seen: tuple[Path, ...]) -> dict[str, Any]:
        """The content `own` of the file `path` on top of the one that it is `like`."""
        if "like" not in own:
            return own
        under = self._under(what, path, str(own["like"]), seen)
        return _merge(
            self._content(what, under, (*seen, path)), {key: value for key, value in own.items() if key != "like"}
        )

    def _under(self, what: str, path: Path, base: str, seen: tuple[Path, ...]) -> Path:
        """The file that `path` starts from with `like = base`."""
        known = self._files[_TYPES[what]]
        candidates = [p for p in known.get(base, []) if p != path and p not in seen]
        if not candidates:
            raise InputError(f"{path}: like: {UnknownName(what, base, known, '(or it is like itself)')}")
        return candidates[-1]


def _stated(content: dict[str, Any]) -> set[str]:
    """Dotted names of the figures that a file itself gives."""
    return {f"{group}.{key}" for group, table in content.items() if isinstance(table, dict) for key in table}


def _merge(under: dict[str, Any], over: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """`over` on top of `under`: tables are merged one level deep, so that a figure is replaced as a whole."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and depth == 0
        merged[key] = _merge(merged[key], value, depth + 1) if both else value
    return merged


def _files(folder: Path) -> Iterable[tuple[str, Path]]:
    if not folder.is_dir():
        raise InputError(
            f"hardware folder {str(folder)!r} does not exist; give a folder with devices/, nodes/ or prices/"
        )
    for part in _TYPES.values():
        yield from ((part, path) for path in sorted((folder / part).glob("*.toml")))
    for path in sorted(folder.glob("*.toml")):
        kind = parse(path).get("type")
        if kind not in _TYPES:
            raise InputError(
                f"{path}: type = {kind!r}: a file outside devices/, nodes/ and prices/ needs a type: "
                f"{', '.join(_TYPES)}"
            )
        yield _TYPES[kind], path


def user_folder() -> Path:
    """Where a user keeps files for every run (XDG base directory specification)."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "perfmodel" / "hwdb"


def load(folders: Iterable[str | Path] = ()) -> Hwdb:
    """The database: built-in files, then the user's folder where it exists, then `folders` in order.

    Cached by folders. `InputError` for a folder that does not exist or a stray file; a malformed file is
    reported when it is read.

    >>> load().device("h100-sxm").peak("bf16")
    989000000000000.0
    """
    own = user_folder()
    named = tuple(Path(f).expanduser().resolve() for f in ([folders] if isinstance(folders, str | Path) else folders))
    return _load((_BUILT_IN, *((own,) if own.is_dir() else ()), *named))


@lru_cache(maxsize=32)
def _load(folders: tuple[Path, ...]) -> Hwdb:
    return Hwdb(folders)


def built_in() -> Hwdb:
    """The database without anybody's own files: what the shipped profiles were measured on."""
    return _load((_BUILT_IN,))


def device(name: str) -> Device:
    """The built-in (or user's own) device called `name`."""
    return load().device(name)


def devices() -> list[Device]:
    """All built-in (and the user's own) devices."""
    return load().devices()


def node(name: str) -> Node:
    """The built-in (or user's own) node called `name`."""
    return load().node(name)


def nodes(device: str | None = None) -> list[Node]:
    """All built-in (and the user's own) nodes, or those that hold `device`."""
    return load().nodes(device)


def prices(device: str | None = None) -> list[Price]:
    """All built-in (and the user's own) prices, or those of one device."""
    return load().prices(device)
