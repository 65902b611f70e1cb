"""Options that state a scenario on the command line: its load, and the hardware on offer; or that change a file's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from hwdb import Hwdb, InputError, SeveralDevices
from search.options.words import NAME
from search.options.workload_options import DEFAULT_ISL, DEFAULT_OSL, SloOptions, WorkloadOptions

#: Tables of a scenario: name -> key -> value. None takes out what a file says.
Tables = dict[str, dict[str, Any]]
#: Keys of `[workload]` that say how long requests are; each way of saying it takes the place of all others.
LENGTH_KEYS = ("dataset", "histogram", "trace", "input_tokens", "output_tokens", "share", "classes")
#: Keys of `[workload]` that say how requests arrive.
LOAD_KEYS = ("request_rate_rps", "rate_by_hour", "concurrency", "n_requests", "arrival", "size_for")


@dataclass(frozen=True)
class AskedWorkloadOptions(WorkloadOptions):
    """The requests of a scenario, and how they arrive."""

    section: ClassVar[str] = "Workload (give one load; default: as much as the hardware serves)"

    def table(self, *, of_file: bool) -> dict[str, Any]:
        """Return the keys of `[workload]` that the options state.

        of_file: whether they change those of a file, which then keeps the lengths and the load that no option states.
        """
        self.workload()  # refuses what contradicts itself
        loads = {
            "request_rate_rps": self.request_rate_rps,
            "concurrency": self.concurrency if self.batch is None else self.batch,
            "n_requests": self.n_requests,
            "arrival": None if self.batch is None else "static",
        }
        others = {
            "isl_dist": self.isl_dist or None,
            "prefix_hit": self.prefix_hit,
            "cv": None if self.cv == WorkloadOptions.cv else self.cv,
        }
        told = {**self._lengths(of_file=of_file), **{k: v for k, v in others.items() if v is not None}}
        if any(v is not None for v in loads.values()):
            told |= {**dict.fromkeys(LOAD_KEYS), **loads}
        return {k: _tidy(v) for k, v in told.items() if of_file or v is not None}

    def _lengths(self, *, of_file: bool) -> dict[str, Any]:
        """Return the keys that say how long requests are; {} where a file says it and no option does."""
        named = {"dataset": self.dataset or None, "histogram": self.histogram and str(self.histogram.resolve())}
        if any(named.values()):
            return {**dict.fromkeys(LENGTH_KEYS), **named}
        if of_file and self.isl is None and self.osl is None:
            return {}
        lengths = {
            "input_tokens": DEFAULT_ISL if self.isl is None else self.isl,
            "output_tokens": DEFAULT_OSL if self.osl is None else self.osl,
        }
        return {**dict.fromkeys(LENGTH_KEYS), **lengths}


@dataclass(frozen=True)
class OfferOptions:
    """The hardware on offer, what serves on it, and any other key of a scenario."""

    section: ClassVar[str] = "Hardware on offer, and other keys of a scenario"

    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE[=N]",
            help="Hardware on offer, and how many are on hand: h100-sxm, h200-sxm=32, 8xH100, or whole nodes: "
            "dgx-h100, p5.48xlarge=2; repeatable (default with MODEL: every device with a known price).",
        ),
    ] = None
    engine: Annotated[
        list[str] | None, typer.Option(metavar=NAME, help="Engine that serves; repeatable: the best is taken.")
    ] = None
    weights: Annotated[
        list[str] | None, typer.Option(metavar="FORMAT", help="Weight format to try: fp8, bf16, auto, ...; repeatable.")
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other key of a scenario: search.tp=4,8, limits.power_kw=40, "
            "hardware.usd_per_hour.gaudi3=2.5; repeatable.",
        ),
    ] = None
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Write the scenario to a file, which report, simulate, export and the others take.",
        ),
    ] = None

    def tables(self, database: Hwdb) -> Tables:
        """Return the tables that the options state: `[hardware]`, `[engine]`, `[search]`, but not those of `--set`."""
        told: Tables = {"hardware": self._hardware(database)} if self.on else {}
        if self.engine:
            told["engine"] = {"name": self.engine[0] if len(self.engine) == 1 else self.engine}
        if self.weights:
            told["search"] = {"weight": [name for text in self.weights for name in text.split(",")]}
        return told

    def _hardware(self, database: Hwdb) -> dict[str, Any]:
        """Return the table `[hardware]` of what is on offer."""
        devices, nodes, stock = list[str](), list[str](), dict[str, float]()
        for text in (part.strip() for given in self.on or () for part in given.split(",")):
            name, _, amount = (part.strip() for part in text.partition("="))
            offered = _offered(name, database)
            (nodes if offered.machine else devices).append(offered.machine or offered.name)
            number = _on_hand(text, amount) * offered.each if amount else offered.count
            if offered.count not in (0, number):
                raise InputError(
                    f"--on {text}: {name!r} is {offered.count} of {offered.device}, not {number:g}; give one number"
                )
            if number and stock.setdefault(offered.device, number) != number:
                on_hand = f"{stock[offered.device]:g} of {offered.device}"
                raise InputError(f"--on {text}: {on_hand} are on hand already; give one number")
        told = {"devices": devices, "nodes": nodes, "stock": stock}
        return {key: value or None for key, value in told.items()}


@dataclass(frozen=True)
class _Offered:
    """What one name of `--on` offers.

    name: as it is written to the scenario. device: what is offered in the end. each: devices of a machine, 1 for a
    device. count: devices that the name itself says are there, 0 where it says none. machine: node or type of cloud
    instance, "" for a device.
    """

    name: str
    device: str
    each: int = 1
    count: int = 0
    machine: str = ""


def _offered(name: str, database: Hwdb) -> _Offered:
    """Return what a name offers: a device, a machine that is paid for as a whole, or a number of either."""
    machine = None if name in database.names() else database.machine(name)
    if machine is not None:
        device, each = machine
        return _Offered(name, device, each, machine=database.node(name).name)
    try:
        return _Offered(name, database.device(name).name)
    except SeveralDevices as several:
        held = database.node(several.machine).name if several.machine else ""
        return _Offered(several.device, several.device, count=several.count, machine=held)


def bounds_of(slo: SloOptions) -> Tables:
    """Return the tables `[slo]` and `[limits]` that the options for bounds state; {} where they state none."""
    told: Tables = {}
    if bounds := slo.bounds().objectives:
        told["slo"] = {bound.key: _tidy(bound.limit * 1e3) for bound in bounds}
    if slo.confidence != SloOptions.confidence:
        told["limits"] = {"confidence": slo.confidence}
    return told


def _on_hand(text: str, amount: str) -> float:
    """Return the number of devices on hand that an option states; raises `InputError` for what is no such number."""
    if not amount.isdecimal() or not int(amount):
        raise InputError(f"--on {text}: {amount!r} is no number of devices; write it like h200-sxm=32")
    return int(amount)


def _tidy(value: Any) -> Any:
    """Return a number without rounding noise, whole where it is whole; anything else as it is."""
    if not isinstance(value, float):
        return value
    rounded = float(f"{value:.12g}")
    return int(rounded) if rounded.is_integer() else rounded
