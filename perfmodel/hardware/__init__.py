"""Device figures as columns: what the models need of each candidate's device, links and host."""

from __future__ import annotations

from perfmodel.hardware import efficiency
from perfmodel.hardware.columns import Hardware, hardware_of
from perfmodel.hardware.efficiency import Efficiency, efficiency_of, roofline_spread, shares
from perfmodel.hardware.host import WHERE, Host, Where, figures_of, link_of
from perfmodel.hardware.network import group_link

__all__ = [
    "WHERE",
    "Efficiency",
    "Hardware",
    "Host",
    "Where",
    "efficiency",
    "efficiency_of",
    "figures_of",
    "group_link",
    "hardware_of",
    "link_of",
    "roofline_spread",
    "shares",
]
