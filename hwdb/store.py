"""Finding and reading hardware files: the built-in ones, the user's own folder, then folders given by name.

A folder holds `devices/`, `nodes/` and `prices/`, or plain files whose key `type` says which of the three they are. A
device or node has the name of its file. A later folder replaces what an earlier one says under the same name.
`like = "h100-sxm"` in a file starts from that device or node; the file then gives only what differs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hwdb import infile
from hwdb.devicefile import CEILINGS, Device, arch_in, make_of, read_device, varied
from hwdb.errors import InputError, UnknownName, check_name
from hwdb.figures import FigureTable, read_hardware_file
from hwdb.nodefile import Node, read_node
from hwdb.pricefile import Price, read_prices
from hwdb.tomlfile import read_text

if TYPE_CHECKING:  # what reads other names than those of files is imported where there is one
    from hwdb.instances import Instance
    from hwdb.spelling import Spellings

_BUILT_IN = Path(__file__).parent
#: `type` of a file -> folder of such files
_FOLDERS = {"device": "devices", "node": "nodes", "prices": "prices"}

#: Said of a name that no file describes: how hardware of one's own is added.
OWN_HARDWARE = "(or describe it in a file of your own: --hwdb DIR, folders in [hardware])"


class Hwdb:
    """The hardware database of the given folders; a later folder wins over an earlier one.

    Files are read when first needed.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        #: `type` -> name -> files of that name, in the order of the folders
        self._files: dict[str, dict[str, list[Path]]] = {kind: {} for kind in _FOLDERS}
        for folder in self.folders:
            for kind, path in _files(folder):
                self._files[kind].setdefault(path.stem, []).append(path)
        self._devices: dict[str, Device] = {}
        #: name of a device -> its chip family
        self._makes: dict[str, str] = {}
        self._nodes: dict[str, Node] = {}
        self._prices: list[Price] | None = None
        self._by_spelling: Spellings | None = None

    def names(self) -> list[str]:
        """Return the names of all devices, sorted."""
        return sorted(self._files["device"])

    def node_names(self) -> list[str]:
        """Return the names of all nodes, sorted."""
        return sorted(self._files["node"])

    def node_called(self, name: str) -> str:
        """Return the name of the node that `name` means, in any spelling ("GB200 NVL72"); "" where it means none."""
        if name in self._files["node"]:
            return name
        from hwdb.spelling import same_name

        return same_name(name, self.node_names())

    def machine(self, name: str) -> tuple[str, int] | None:
        """Return (device, how many) of the node or type of cloud instance that `name` means; None where it means none.

        >>> load().machine("DGX H100"), load().machine("H100")
        (('h100-sxm', 8), None)
        """
        from hwdb.instances import instance_called

        instance = instance_called(name) if name not in self._files["node"] else None
        if instance is not None:
            return instance.device, instance.count
        node = self.node_called(name)
        return (self.node(node).device, self.node(node).count) if node else None

    def device(self, name: str) -> Device:
        """Return the device called `name`, in any spelling that means one device ("RTX 4090", "p5.48xlarge").

        `Device.reading` says what another spelling was taken for. Raises `UnknownName` with the nearest names, and
        `InputError` for a malformed file and for a name that may mean several devices.
        """
        check_name("device", name)
        if name not in self._devices:
            if name in self._files["device"]:
                self._devices[name] = self._read_device(self._path("device", name), ())
            else:
                self._devices[name] = self._spelled(name)
        return self._devices[name]

    def _spelled(self, name: str) -> Device:
        """Return the device that another spelling means: of the device, or of an instance or node that holds it."""
        from hwdb.instances import instance_called, instance_of_family

        instance = instance_called(name)
        node = "" if instance else self.node_called(name)
        if node:
            holder = self.node(node)
            return replace(self.device(holder.device), reading=f"{name}: {holder.count} x {holder.device}")
        meant = instance.device if instance else self._spellings().find(name)
        if not meant:
            instance = instance_of_family(name)
            meant = instance.device if instance else ""
        if not meant or meant not in self._files["device"]:
            from hwdb.spelling import slice_hint

            hint = slice_hint(name) or OWN_HARDWARE
            raise UnknownName("device", name, self._files["device"], hint, self._spellings().near(name))
        if instance is not None:
            return instance.as_device(self.device(meant), name)
        return replace(self.device(meant), reading=f"{name}: {meant}")

    def _spellings(self) -> Spellings:
        """Return what finds devices by other spellings, built when first needed."""
        if self._by_spelling is None:
            from hwdb.spelling import Spellings

            self._by_spelling = Spellings(
                self._files["device"], self._printed_memory, self.machine, self._files["node"]
            )
        return self._by_spelling

    def _printed_memory(self, name: str) -> tuple[frozenset[int], str]:
        """Return the sizes of memory that are printed for a device, in GB, and its type of memory."""
        from hwdb.spelling import taken_apart

        device = self.device(name)
        record = device.records["memory.capacity"]
        gb = [round(r.number) for r in (record, *record.alternatives) if r.unit in ("GB", "GiB")]
        return frozenset([*gb, round(device.memory / 2.0**30), taken_apart(device.title).memory]), device.memory_type

    def devices(self, make: str | None = None) -> list[Device]:
        """Return all devices, or those of one chip family (`Device.make`, "Hopper"), sorted by name.

        Of a family, only its own devices are built: that of all others takes most of the time.
        """
        return [self.device(name) for name in self.names() if make is None or self._make(name) == make]

    def _make(self, name: str) -> str:
        """Return `Device.make` of the device called `name`, from its file alone: the device need not be built."""
        if name not in self._makes:
            path = self._path("device", name)
            arch = arch_in(read_text(path, "hardware file"))
            self._makes[name] = make_of(arch or self._complete("device", read_hardware_file(path), ()).text("arch"))
        return self._makes[name]

    def node(self, name: str) -> Node:
        """Return the node called `name`: of the database, or a type of cloud instance.

        Raises `UnknownName` with the nearest names, and `InputError` for a malformed file.
        """
        from hwdb.instances import instance_called, instance_of_family

        check_name("node", name)
        instance = instance_called(name) if name not in self._files["node"] else None
        known = self.node_called(name)
        instance = instance if instance or known else instance_of_family(name)
        if instance is not None:
            return self.node(instance.node) if instance.node else self._node_of(instance)
        name = known or name
        if name not in self._nodes:
            table = self._complete("node", read_hardware_file(self._path("node", name)), ())
            node = read_node(name, table)
            self._check_name("device", node.device, table)
            self._nodes[name] = node
        return self._nodes[name]

    def _node_of(self, instance: Instance) -> Node:
        """Return the node that a type of cloud instance is, with links and host of a server with the same devices."""
        alike = [n for n in self.nodes(instance.device) if n.count == instance.count]
        return instance.as_node(self.device(instance.device), alike[0] if alike else None)

    def nodes(self, device: str | None = None) -> list[Node]:
        """Return all nodes, or those that hold `device`, sorted by name."""
        found = [self.node(name) for name in self.node_names()]
        return [node for node in found if device in (None, node.device)]

    def prices(self, device: str | None = None) -> list[Price]:
        """Return all prices, or those of one device, in the order of the files."""
        if self._prices is None:
            self._prices = list(self._read_prices())
        return [price for price in self._prices if device in (None, price.device)]

    def _read_prices(self) -> Iterator[Price]:
        """Read the prices of every price file, in the order of the files."""
        for name in sorted(self._files["prices"]):
            table = read_hardware_file(self._path("prices", name))
            for price, row in zip(read_prices(table), table.tables("price"), strict=True):
                self._check_name("device", price.device, row)
                if price.node:
                    self._check_name("node", price.node, row)
                yield price

    def _check_name(self, kind: str, name: str, table: FigureTable) -> None:
        """Raise `InputError` where a file names (under the key `kind`) a device or node that no file describes."""
        if name not in self._files[kind]:
            raise table.error(kind, str(UnknownName(kind, name, sorted(self._files[kind]))))

    def _read_device(self, path: Path, seen: tuple[Path, ...]) -> Device:
        """Read the device of one file, as a variant of the device that its key `like` names or that it replaces.

        seen: files that lead here by `like`, which may not be named again.
        """
        own = read_hardware_file(path)
        if "like" in own:
            base = self._read_device(self._base_path("device", own, seen), (*seen, path))
            return varied(read_device(path.stem, self._complete("device", own, seen)), base, own.stated())
        device, base_or_none = read_device(path.stem, own), self._replaced(path)
        if base_or_none is None:
            return device
        # A ceiling copied unchanged from the replaced file was measured at the rated figure of that file.
        stated = {c for c in CEILINGS.values() if device.records.get(c) != base_or_none.records.get(c)}
        return varied(device, base_or_none, stated)

    def _replaced(self, path: Path) -> Device | None:
        """Return the device of the same name in an earlier folder.

        None where there is none, or its file is malformed.
        """
        known = self._files["device"][path.stem]
        earlier = known[: known.index(path)]
        try:
            return self._read_device(earlier[-1], ()) if earlier else None
        except InputError:
            return None

    def _path(self, kind: str, name: str) -> Path:
        """Return the file that describes `name`: of several the last one."""
        known = self._files[kind]
        if name not in known:
            raise UnknownName(kind, name, known, OWN_HARDWARE)
        return known[name][-1]

    def _complete(self, kind: str, own: FigureTable, seen: tuple[Path, ...]) -> FigureTable:
        """Return the file `own` with what it leaves out taken from the file that its key `like` names.

        That file is completed first. seen: files that lead here by `like`, which may not be named again.
        """
        if "like" not in own:
            return own
        base = read_hardware_file(self._base_path(kind, own, seen))
        return own.on_top_of(self._complete(kind, base, (*seen, Path(own.file))))

    def _base_path(self, kind: str, own: FigureTable, seen: tuple[Path, ...]) -> Path:
        """Return the file that the key `like` of the file `own` names.

        Of several files of that name it is the last one which is neither `own` nor in `seen`.
        """
        known, name = self._files[kind], own.text("like")
        candidates = [p for p in known.get(name, []) if p != Path(own.file) and p not in seen]
        if not candidates:
            raise own.error("like", str(UnknownName(kind, name, known, "(or it is like itself)")))
        return candidates[-1]


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the key `type` and the path of every hardware file in a folder."""
    if not folder.is_dir():
        raise InputError(
            f"hardware folder {str(folder)!r} does not exist; give a folder with devices/, nodes/ or prices/"
        )
    for kind, name in _FOLDERS.items():
        yield from ((kind, path) for path in sorted((folder / name).glob("*.toml")))
    for path in sorted(folder.glob("*.toml")):
        table = read_hardware_file(path)
        if "type" not in table:
            need = f"a file outside devices/, nodes/ and prices/ needs a type: {', '.join(_FOLDERS)}"
            raise table.error("", f"'type' is missing; {need}")
        yield table.text("type", choices=tuple(_FOLDERS)), path


def user_folder() -> Path:
    """Return the folder where a user keeps hardware files for every run (XDG base directory specification).

    It need not exist; "~/.config/perfmodel/hwdb" where nobody says what the user's home folder is.
    """
    base = os.environ.get("XDG_CONFIG_HOME") or str(infile.expanded("~/.config"))
    return Path(base) / "perfmodel" / "hwdb"


def load(folders: Iterable[str | Path] = ()) -> Hwdb:
    """Return the database of the built-in files, then the user's folder where it exists, then `folders` in order.

    Cached by folders. `InputError` for a folder that does not exist or a stray file; a malformed file is
    reported when it is read.

    >>> load().device("h100-sxm").peak("bf16")
    989000000000000.0
    """
    own = user_folder()
    named = tuple(infile.expanded(f).resolve() for f in ([folders] if isinstance(folders, str | Path) else folders))
    there = os.path.isdir(own)  # a home folder that may not be entered holds nothing for this user
    return _load((_BUILT_IN, *((own,) if there else ()), *named))


@lru_cache(maxsize=32)
def _load(folders: tuple[Path, ...]) -> Hwdb:
    """Return the database of `folders`, kept for later calls with the same folders."""
    return Hwdb(folders)


def built_in() -> Hwdb:
    """Return the database without anybody's own files: the devices that the shipped profiles were measured on."""
    return _load((_BUILT_IN,))


def device(name: str) -> Device:
    """Return the built-in (or user's own) device called `name`."""
    return load().device(name)


def devices() -> list[Device]:
    """Return all built-in (and the user's own) devices."""
    return load().devices()


def node(name: str) -> Node:
    """Return the built-in (or user's own) node called `name`."""
    return load().node(name)


def nodes(device: str | None = None) -> list[Node]:
    """Return all built-in (and the user's own) nodes, or those that hold `device`."""
    return load().nodes(device)


def prices(device: str | None = None) -> list[Price]:
    """Return all built-in (and the user's own) prices, or those of one device."""
    return load().prices(device)
