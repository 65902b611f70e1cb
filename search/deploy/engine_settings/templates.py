"""Read `templates.toml`: what our settings are called by each engine, images, and how clusters count devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hwdb import Device, UnknownName
from hwdb.tomlfile import parse_values, read_text
from search.deploy.engine_settings.parsers import number

TABLE = Path(__file__).with_name("templates.toml")
#: Devices of one node. Assumed: what nearly all servers with data-centre accelerators have.
NODE_DEVICES = 8


def nodes_for(devices: int) -> int:
    """Return how many nodes hold so many devices of one replica, with as many of them on each."""
    least = -(-devices // NODE_DEVICES)
    return next(nodes for nodes in range(least, devices + 1) if devices % nodes == 0)


@dataclass(frozen=True)
class Template:
    """How one engine is launched; the keys are explained in `templates.toml`."""

    engine: str
    command: tuple[str, ...]
    module: str
    model: str
    model_flag: str
    releases: tuple[str, ...]
    image: Mapping[str, str]
    bench: tuple[str, ...]
    metric: str
    fixed: tuple[str, ...]
    flags: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, str]
    pools: Mapping[str, Any]
    nodes: Mapping[str, Any]
    lora: Mapping[str, Any]
    uncounted: Mapping[str, str]
    variables: Mapping[str, str]
    formats: Mapping[str, str]
    file: str

    def image_for(self, device: Device | None, version: str) -> str:
        """Return the container image of a release on a device; "" where none is known.

        A processor takes the image of processors, whoever made it. An unknown device takes the engine's first image.
        """
        key = next(iter(self.image)) if device is None else device.kind if device.kind == "cpu" else device.vendor
        return self.image.get(key, "").format(version=version)

    def has(self, setting: str, version: str) -> bool:
        """Return whether a release has a flag or key for a setting."""
        return setting in self.keys or self.has_flag(setting, version)

    def has_flag(self, setting: str, version: str) -> bool:
        """Return whether a release has a flag for a setting."""
        entry = self.flags.get(setting)
        since = "" if entry is None else entry.get("since", "")
        written = entry is not None and not entry.get("read", False)
        return written and (not since or number(version) >= number(since))


@cache
def _table() -> dict[str, Any]:
    """Return the whole file."""
    return parse_values(read_text(TABLE, "templates"), str(TABLE))


@cache
def template(engine: str) -> Template:
    """Return how an engine is launched; `UnknownName` for an engine without a template."""
    known = _table()["engine"]
    if engine not in known:
        raise UnknownName("engine to launch", engine, list(known), f"({', '.join(known)})")
    found: dict[str, Any] = {
        "flags": {},
        "keys": {},
        "pools": {},
        "nodes": {},
        "lora": {},
        "uncounted": {},
        "variables": {},
        "formats": {},
        "file": "",
        **known[engine],
    }
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    return Template(engine=engine, **fields)


def engines() -> tuple[str, ...]:
    """Return the engines that can be launched."""
    return tuple(_table()["engine"])


def resource(device: Device | None) -> str:
    """Return what a cluster calls devices of this kind as a resource, such as nvidia.com/gpu; "" for CPUs."""
    if device is None:
        return "nvidia.com/gpu"
    if device.kind == "cpu":
        return ""
    names: Mapping[str, str] = _table()["resource"]
    gaudi = device.vendor == "Intel" and device.kind != "gpu"
    return names["Intel accelerator"] if gaudi else names.get(device.vendor, f"{device.vendor.lower()}.com/device")


def resources() -> tuple[str, ...]:
    """Return all names of resources that stand for devices."""
    return tuple(_table()["resource"].values())


def product(device: str) -> str:
    """Return the value of the node label nvidia.com/gpu.product of a device; "" where it is not known."""
    return str(_table()["product"].get(device, ""))


def device_of_product(label: str) -> str:
    """Return the device that a value of a node label, or Ray's accelerator_type, names; "" where it is not known."""
    found = next((name for name, value in _table()["product"].items() if value == label), "")
    return str(found or _table()["named"].get(label, ""))
