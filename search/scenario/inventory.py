"""Define the supply side of a fleet: options that may be rented, where their devices come from, stock, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from perfmodel.arrays import NAN

#: Where devices come from: rented by the period, rented all day, rented until the owner takes them back, bought.
SUPPLY_KINDS = ("on_demand", "reserved", "spot", "owned")
#: Stands between a device and its region in the name that its devices are counted by.
IN_REGION = " @ "


def placed(device: str, region: str) -> str:
    """Return the name by which the devices of a region are counted, such as `l4 @ europe`; "" for no region."""
    return f"{device}{IN_REGION}{region}" if region else device


def device_type(place: str) -> str:
    """Return the device of a name that `placed` made.

    >>> device_type(placed("l4", "europe")), device_type("l4")
    ('l4', 'l4')
    """
    return place.partition(IN_REGION)[0]


@dataclass(frozen=True, kw_only=True)
class TermsOfUse:
    """On which terms an option is used.

    parts: devices of a replica by name, where it takes several device types (a pool that prefills and one that
    decodes); empty for one device type. start_up_h: hours from the start of a replica until it serves. min_stay_h:
    least hours that a started replica is kept. fixed: the same replicas in all periods, even in an elastic fleet.
    availability: share of the time that a replica is up. domain: what fails as one (a zone, a rack), "" for none.
    current: replicas in use today. migration_usd: of a replica beyond these, once. penalty_usd_per_hour: of a replica,
    which decides but is not paid: a soft preference, below 0 for what is preferred. gco2_per_kwh: of its electricity,
    NaN for that of the site. region: in which it stands, "" for none.
    """

    parts: Mapping[str, float] = field(default_factory=dict)
    start_up_h: float = 0.0
    min_stay_h: float = 0.0
    fixed: bool = False
    availability: float = 1.0
    domain: str = ""
    current: int = 0
    migration_usd: float = 0.0
    penalty_usd_per_hour: float = 0.0
    gco2_per_kwh: float = NAN
    region: str = ""


@dataclass(frozen=True)
class Option(TermsOfUse):
    """One way to serve, as the fleet program sees it: a replica of a deployment on a device, or on several.

    device: name by which its devices are counted, with its region where it stands in one (see `placed`). devices: per
    replica. usd_per_hour, power (watts, NaN unknown): of a replica, hosts included. replicas_per_node:
    replicas that fail together when a node fails. nodes: per replica (0.25: four replicas on one node). model: that a
    replica runs, "" where the throughput is stated. most_used: share of its capacity that its throughput is.
    part_nodes: nodes of a replica by device, as `parts`. together: models that one replica serves at once, each with
    a load of its own; () for one. start_up_basis: where the start-up time comes from, in words. The other fields are
    those of `TermsOfUse`.
    """

    name: str
    device: str
    devices: float
    usd_per_hour: float
    power: float = NAN
    replicas_per_node: float = 1.0
    nodes: float = 1.0
    model: str = ""
    most_used: float = 1.0
    part_nodes: Mapping[str, float] = field(default_factory=dict)
    together: tuple[str, ...] = ()
    start_up_basis: str = ""

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the names of the models that a replica runs."""
        return self.together or (self.model,)

    @property
    def devices_of(self) -> Mapping[str, float]:
        """Return the devices of a replica by name."""
        return self.parts or {self.device: self.devices}

    @property
    def nodes_of(self) -> Mapping[str, float]:
        """Return the nodes that a replica takes by device."""
        return self.part_nodes or {self.device: self.nodes}

    @property
    def pools(self) -> tuple[str, ...]:
        """Return the names of the pools of nodes that it belongs to: devices, with and without region, and domain."""
        return (*self.devices_of, *map(device_type, self.devices_of), self.region, self.domain)

    def counted(self, stock: str) -> float:
        """Return the devices of a replica that count in the stock of that name: of a region, or of all regions."""
        return sum(n for place, n in self.devices_of.items() if stock in (place, device_type(place)))


@dataclass(frozen=True)
class Supply:
    """One source of a device type at one price.

    kind: one of `SUPPLY_KINDS`. usd_per_hour: of one device while it is held, or of one node where the device is paid
    by the node; of an owned one its electricity. A `reserved` device is paid in all periods, the others by the period.
    most: devices that it has. least: devices that are paid whether they are used or not. least_spend: USD per hour that
    are paid whether they are used or not. interruptions_per_hour: how often a spot device is taken back. lost_share:
    share of the spot devices of this type that may be taken back at once.
    """

    device: str
    kind: str
    usd_per_hour: float
    most: float = float("inf")
    least: float = 0.0
    least_spend: float = 0.0
    interruptions_per_hour: float = 0.0
    lost_share: float = 1.0

    @property
    def name(self) -> str:
        """Return the name that limits, rows and messages give it."""
        return f"{self.device} {self.kind}"


@dataclass(frozen=True)
class Inventory:
    """What a fleet may use; whatever is absent or inf is unlimited.

    stock: devices by name; that of a device without a region counts those of all regions. power: watts. budget: USD per
    hour of every period. mean_budget: USD per hour as the mean over the periods. carbon: grams of CO2e per hour as the
    mean over the periods. spare_nodes: number of nodes, any of them, that may fail at once with every request still
    served within its SLO. spare: the same of the nodes of one device, region or domain, by its name. spare_domains:
    number of whole domains that may fail at once. node_usd_per_hour: price of a whole node by device, where devices are
    paid by the node; a replica on such a device has no price of its own. supplies: where the devices come from; the
    price of an option on a device that has supplies plays no part.
    """

    stock: Mapping[str, float] = field(default_factory=dict)
    power: float = float("inf")
    budget: float = float("inf")
    nodes: float = float("inf")
    spare_nodes: int = 0
    node_usd_per_hour: Mapping[str, float] = field(default_factory=dict)
    supplies: tuple[Supply, ...] = ()
    mean_budget: float = float("inf")
    carbon: float = float("inf")
    spare: Mapping[str, int] = field(default_factory=dict)
    spare_domains: int = 0
