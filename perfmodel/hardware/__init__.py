"""Hardware: the numbers of each candidate's device, host and links as columns, and what kernels reach of them."""

from __future__ import annotations

from perfmodel.hardware import efficiency
from perfmodel.hardware.columns import Hardware, hardware_of
from perfmodel.hardware.efficiency import (
    DeviceEfficiency,
    Efficiency,
    device_efficiency,
    efficiency_of,
    roofline_spread,
    stated_efficiency,
)
from perfmodel.hardware.host import EXPERTS_HAND_OVER, WHERE, Host, Where, host_figures, host_link_bandwidth
from perfmodel.hardware.network import GroupLink, group_link
from perfmodel.hardware.order import better_and_lesser, kept_in_order, no_worse

__all__ = [
    "EXPERTS_HAND_OVER",
    "WHERE",
    "DeviceEfficiency",
    "Efficiency",
    "GroupLink",
    "Hardware",
    "Host",
    "Where",
    "better_and_lesser",
    "device_efficiency",
    "efficiency",
    "efficiency_of",
    "group_link",
    "hardware_of",
    "host_figures",
    "host_link_bandwidth",
    "kept_in_order",
    "no_worse",
    "roofline_spread",
    "stated_efficiency",
]
