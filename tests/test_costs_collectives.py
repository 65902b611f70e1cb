"""Collectives against alpha-beta numbers worked out by hand, and the links that carry them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwdb
from perfmodel import equations as eq
from perfmodel.costs.rooflines.collectives import collective_time
from perfmodel.hardware.columns import Hardware, hardware_of
from perfmodel.hardware.network import group_link
from perfmodel.operators.demand import Demand

FAMILIES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")
MB = 1e6


def columns(*names: str) -> Hardware:
    return hardware_of([hwdb.device(n) for n in names], np.arange(len(names)))


def fabric(**figures: float | str) -> Hardware:
    """One device of round numbers: 100 GB/s and 1 us in a node of 8 behind a switch, 10 GB/s and 10 us beyond."""
    plain = {
        "link_bandwidth": 100e9,
        "link_latency": 1e-6,
        "topology": "switch",
        "peers": 8.0,
        "net_bandwidth": 10e9,
        "net_latency": 10e-6,
    }
    return replace(columns("h100-sxm"), **{k: np.array([v]) for k, v in {**plain, **figures}.items()})


def ask(family: str, message: float, group: float) -> Demand:
    zero = np.zeros(1)
    return Demand("test", family, zero, zero, np.ones(1), message=message, shape={"group": group})


def seconds(family: str, message: float, group: float, wires: Hardware, efficiency: float = 1.0) -> float:
    return float(np.ravel(collective_time(ask(family, message, group), wires, efficiency))[0])


# ------------------------------------------------------------------------------------------------- numbers by hand


@pytest.mark.parametrize(
    ("family", "message", "expected"),
    [
        # two shots: all pieces of 100 MB / 8 at once, there and back: 2 x (1 us + 87.5 MB at 100 GB/s)
        ("all_reduce", 100 * MB, 2 * (1e-6 + 875e-6)),
        # one shot: 1 us and 7 x 1 kB at 100 GB/s = 0.07 us
        ("all_reduce", 1e3, 1.07e-6),
        # every device fetches the other 7 eighths at once: 1 us + 87.5 MB at 100 GB/s
        ("all_gather", 100 * MB, 1e-6 + 875e-6),
        ("reduce_scatter", 100 * MB, 1e-6 + 875e-6),
        # log2(8) = 3 us and 7 eighths of 100 MB
        ("all_to_all", 100 * MB, 3e-6 + 875e-6),
        ("p2p", 100 * MB, 1e-6 + 1e-3),
    ],
)
def test_eight_devices_behind_a_switch(family: str, message: float, expected: float) -> None:
    assert seconds(family, message, 8, fabric()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("topology", "seconds_of_one_megabyte"),
    [
        # one shot 1 + 70 us, two shots 2 + 17.5 us
        ("switch", 19.5e-6),
        ("mesh", 19.5e-6),
        # ring 2 x 7 us + 17.5 us, tree 2 x 3 us + 20 us
        ("pcie", 26e-6),
        ("ring", 31.5e-6),
        # 3 of 4 ports lead to others of eight: 17.5 us / 0.75, and 2 x 2 (sqrt(8) - 1) hops
        ("torus", 4 * (np.sqrt(8) - 1) * 1e-6 + 17.5e-6 / 0.75),
    ],
)
def test_the_algorithm_follows_the_topology(topology: str, seconds_of_one_megabyte: float) -> None:
    assert seconds("all_reduce", MB, 8, fabric(topology=topology)) == pytest.approx(seconds_of_one_megabyte, rel=1e-9)


def test_a_group_beyond_the_node_runs_at_the_network() -> None:
    # rings leave each node of 8 by 8 ports of 10 GB/s: 2 x 15 steps of 10 us and 1 GB / 16 at 80 GB/s
    assert seconds("all_reduce", 1e9, 16, fabric()) == pytest.approx(30 * (10e-6 + 0.78125e-3), rel=1e-9)
    assert seconds("p2p", 1e9, 16, fabric()) == pytest.approx(10e-6 + 0.1, rel=1e-9)


def test_a_fast_network_does_not_outrun_a_slow_node() -> None:
    slow = fabric(link_bandwidth=5e9)
    assert seconds("p2p", 1e9, 16, slow) == pytest.approx(10e-6 + 0.2, rel=1e-9)


def test_a_pair_in_a_mesh_gets_one_link() -> None:
    # MI300X: 7 links of 64 GB/s (AMD CDNA3 white paper); two devices talk over one of them
    mi300x = columns("mi300x")
    assert float(group_link(mi300x, np.array([2.0])).bandwidth[0]) == pytest.approx(64e9, rel=1e-9)
    assert float(group_link(mi300x, np.array([8.0])).bandwidth[0]) == pytest.approx(448e9, rel=1e-9)
    assert seconds("p2p", 64e6, 2, mi300x) == pytest.approx(1e-3, rel=0.01)


def test_two_ends_use_the_links_of_a_pair_wherever_they_lie() -> None:
    # stages of four devices in a node of eight: each device sends to its counterpart over their one link
    mi300x = columns("mi300x")
    assert seconds("p2p", 64e6, 8, mi300x) == seconds("p2p", 64e6, 2, mi300x)
    assert seconds("p2p", 64e6, 16, mi300x) > seconds("p2p", 64e6, 8, mi300x)
    assert seconds("p2p", 64e6, 8, fabric()) == seconds("p2p", 64e6, 2, fabric())


def test_one_hop_takes_devices_that_are_all_linked() -> None:
    tiny = {t: seconds("all_reduce", 1e3, 8, fabric(topology=t)) for t in ("switch", "mesh", "pcie", "ring", "torus")}
    # vLLM runs its one-shot kernel on NVSwitch and on fully connected MI300X, not on more than two cards on a bus
    assert tiny["switch"] == tiny["mesh"] == pytest.approx(1.07e-6, rel=1e-9)
    # a tree's 2 log2(8) hops; on a ring 2 x 7, on a torus of sides 2.8 twice that side less one, there and back
    assert tiny["pcie"] == pytest.approx(6e-6, rel=0.01)
    assert tiny["ring"] == pytest.approx(14e-6, rel=0.01)
    assert tiny["torus"] == pytest.approx(7.3e-6, rel=0.01)


def test_a_pair_is_one_hop_apart_on_any_fabric_but_the_hosts_bus() -> None:
    for topology in ("switch", "mesh", "ring", "torus"):
        assert seconds("all_reduce", 1.0, 2, fabric(topology=topology)) == pytest.approx(1e-6, rel=1e-3), topology
    assert seconds("all_reduce", 1.0, 2, fabric(topology="pcie")) == pytest.approx(2e-6, rel=1e-3)


def walked(side: tuple[int, ...]) -> float:
    """Mean hops from one node of a ring or torus to the others, by counting."""
    away = [sum(min(x, n - x) for x, n in zip(place, side, strict=True)) for place in np.ndindex(*side)]
    return sum(away) / (len(away) - 1)


@pytest.mark.parametrize(("topology", "side"), [("ring", (4,)), ("ring", (5,)), ("ring", (8,)), ("torus", (4, 4))])
def test_bytes_cross_as_many_links_as_the_way_is_long(topology: str, side: tuple[int, ...]) -> None:
    group = float(np.prod(side))
    wires = fabric(topology=topology, peers=64.0, link_latency=0.0)
    direct = eq.all_to_all_time(MB, group, 100e9, 0.0)
    assert seconds("all_to_all", MB, group, wires) == pytest.approx(walked(side) * float(direct), rel=1e-9)


def test_a_small_group_uses_the_ports_between_its_own() -> None:
    # V100 hybrid cube mesh: all-reduce over 2 reaches a fraction of what 8 do (hwdb); a TPU pair one of four ports
    pair = {t: float(group_link(fabric(topology=t), np.array([2.0])).bandwidth[0]) for t in ("switch", "ring", "torus")}
    assert pair == {"switch": 100e9, "ring": 50e9, "torus": 25e9}
    assert float(group_link(fabric(topology="torus", peers=256.0), np.array([16.0])).bandwidth[0]) == 100e9


def test_every_topology_of_the_database_has_a_time() -> None:
    for device in hwdb.devices():
        if device.link.peers > 1 and device.link.bandwidth == device.link.bandwidth:
            for family in FAMILIES:
                assert seconds(family, MB, 2, columns(device.name)) > 0, (device.name, family)


def test_nodes_of_one_device_talk_over_their_network() -> None:
    lone = fabric(peers=1.0, link_bandwidth=np.nan, link_latency=np.nan)
    assert seconds("p2p", 1e9, 2, lone) == pytest.approx(10e-6 + 0.1, rel=1e-9)
    two_boxes = seconds("all_reduce", 1e6, 2, columns("gb10"))
    assert two_boxes >= 1e6 / hwdb.device("gb10").net.bandwidth


def test_an_unknown_link_has_no_time() -> None:
    assert np.isnan(seconds("all_reduce", 1e6, 2, fabric(link_bandwidth=np.nan)))
    assert np.isnan(seconds("all_reduce", 1e6, 16, fabric(net_bandwidth=np.nan)))


# ------------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("family", FAMILIES)
def test_one_device_needs_no_collective(family: str) -> None:
    wire_free = seconds(family, 1e6, 1, fabric())
    # a gather of one is a look at its own memory: at most a latency
    assert wire_free <= 1e-6


@pytest.mark.parametrize("topology", ["switch", "mesh", "ring", "torus", "pcie"])
@given(message=st.floats(1e2, 1e10), group=st.sampled_from([2.0, 4.0, 8.0, 16.0, 64.0]))
def test_scattering_and_gathering_is_an_all_reduce(topology: str, message: float, group: float) -> None:
    wires = fabric(topology=topology)
    both = seconds("reduce_scatter", message, group, wires) + seconds("all_gather", message, group, wires)
    links = group_link(wires, np.array([group]))
    ring = 2 * (group - 1) * (float(links.latency[0]) + message / group / float(links.bandwidth[0]))
    assert both <= ring * (1 + 1e-9)
    assert seconds("all_reduce", message, group, wires) <= ring * (1 + 1e-9)


@pytest.mark.parametrize("family", FAMILIES)
@given(message=st.floats(1.0, 1e10), more=st.floats(1.0, 10.0), group=st.sampled_from([2.0, 4.0, 8.0, 16.0]))
def test_more_bytes_take_longer(family: str, message: float, more: float, group: float) -> None:
    wires = fabric()
    assert seconds(family, message * more, group, wires) >= seconds(family, message, group, wires)


@pytest.mark.parametrize("family", FAMILIES)
@given(message=st.floats(1e2, 1e10), group=st.sampled_from([2.0, 4.0, 8.0, 16.0]))
def test_links_twice_as_fast_take_half_the_time(family: str, message: float, group: float) -> None:
    slow = fabric()
    fast = fabric(link_bandwidth=200e9, net_bandwidth=20e9, link_latency=0.5e-6, net_latency=5e-6)
    assert seconds(family, message, group, fast) == pytest.approx(seconds(family, message, group, slow) / 2, rel=1e-9)
    half = seconds(family, message, group, slow, efficiency=0.5)
    assert seconds(family, message, group, slow) <= half <= 2 * seconds(family, message, group, slow) * (1 + 1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_do_not_see_one_another(family: str) -> None:
    names = ("h100-sxm", "mi300x", "l40s", "gb200", "h100-sxm")
    wires, groups = columns(*names), np.array([8.0, 4.0, 2.0, 72.0, 16.0])
    message = np.array([1e3, 1e6, 1e8, 1e5, 1e7])
    together = collective_time(ask(family, message, groups), wires)  # type: ignore[arg-type]
    apart = [seconds(family, float(message[i]), float(groups[i]), columns(names[i])) for i in range(len(names))]
    np.testing.assert_allclose(together, apart, rtol=1e-12)
