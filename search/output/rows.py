"""Facts as flat rows: devices, nodes and models, with the unit in each column's name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hwdb import PEAKS, Device, Hwdb, Node, Price, UnknownName, from_si
from search.output.tables import heading

if TYPE_CHECKING:
    from perfmodel import ModelSpec

#: What `hw list` prints; JSON and CSV hold every column.
LISTED = (
    "name",
    "title",
    "kind",
    "memory_gb",
    "bandwidth_gb_s",
    "bf16_tflops",
    "fp8_tflops",
    "fp4_tflops",
    "link_gb_s",
    "tdp_w",
    "cheapest_usd_per_hour",
)
DENSE = "Peaks are dense rates; – is unknown. Figures and sources: perfmodel hw show NAME"
MODELS_LISTED = (
    "name",
    "parameters_billion",
    "active_billion",
    "layers",
    "heads",
    "kv_heads",
    "experts",
    "kv_kb_per_token",
    "weights_gb",
    "max_context",
)


def device_row(device: Device, prices: Sequence[Price] = ()) -> dict[str, Any]:
    """What a device can do, in one row; NaN where unknown. `prices` of this device give the cheapest."""
    rates = [p.usd_per_hour for p in prices if p.device == device.name]
    return {
        "name": device.name,
        "title": device.title,
        "vendor": device.vendor,
        "arch": device.arch,
        "kind": device.kind,
        "year": device.year,
        "memory_gb": from_si(device.memory, "GB"),
        "bandwidth_gb_s": from_si(device.bandwidth, "GB/s"),
        **{f"{t}_tflops": from_si(device.peak(t), "TFLOP/s") for t in PEAKS},
        "l2_mb": from_si(device.l2, "MB"),
        "link_gb_s": from_si(device.link.bandwidth, "GB/s"),
        "link_topology": device.link.topology,
        "link_peers": device.link.peers,
        "net_gb_s": from_si(device.net.bandwidth, "GB/s"),
        "tdp_w": device.tdp,
        "idle_w": device.idle,
        **{f"ridge_{t}_flop_per_byte": device.ridge(t) for t in PEAKS},
        "cheapest_usd_per_hour": min(rates, default=float("nan")),
    }


def device_rows(hwdb: Hwdb) -> list[dict[str, Any]]:
    """Every device of the database, one row each."""
    prices = hwdb.prices()
    return [device_row(device, prices) for device in hwdb.devices()]


def figure_rows(device: Device, prices: Iterable[Price] = ()) -> list[dict[str, Any]]:
    """Every figure of a device with its provenance, its ridge points and its prices, one row each."""
    rows: list[dict[str, Any]] = [
        {
            "figure": key,
            "value": record.value,
            "unit": record.unit,
            "kind": record.kind,
            "source": record.source,
            "note": record.note,
        }
        for key, record in device.records.items()
    ]
    source = "dense peak over rated memory bandwidth (Williams et al. 2009)"
    ridges = {t: device.ridge(t) for t in PEAKS}
    rows += [
        {"figure": f"ridge.{t}", "value": v, "unit": "FLOP/B", "kind": "derived", "source": source, "note": ""}
        for t, v in ridges.items()
        if v == v
    ]
    return rows + [
        {
            "figure": f"price.{p.kind}",
            "value": p.usd_per_hour,
            "unit": "USD/h",
            "kind": "assumed" if p.assumed else "rated",
            "source": p.source,
            "note": ", ".join(x for x in (p.provider, p.region, p.date, p.note) if x),
        }
        for p in prices
    ]


def comparison_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Device rows turned on their side: one row a figure, one column a device."""
    shown = [c for c in rows[0] if c != "name" and any(_known(row[c]) for row in rows)]
    return [{"figure": heading(c), **{row["name"]: row[c] for row in rows}} for c in shown]


def _known(value: Any) -> bool:
    return value not in (None, "") and value == value


def node_row(node: Node) -> dict[str, Any]:
    """A node in one row."""
    return {
        "name": node.name,
        "title": node.title,
        "device": node.device,
        "count": node.count,
        "sockets": node.sockets,
        "link_gb_s": from_si(node.link.bandwidth, "GB/s"),
        "link_topology": node.link.topology,
        "net_gb_s": from_si(node.net.bandwidth, "GB/s"),
        "host_w": node.host_power,
        "total_w": node.total_power,
    }


def model_row(spec: ModelSpec) -> dict[str, Any]:
    """The shape of a model in one row; cache bytes before any sliding window caps."""
    return {
        "name": spec.name,
        "architecture": spec.architecture,
        "parameters_billion": spec.parameters() / 1e9,
        "active_billion": spec.parameters(active=True) / 1e9,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "heads": spec.heads,
        "kv_heads": spec.kv_heads,
        "experts": spec.experts,
        "vocabulary": spec.vocab,
        "max_context": spec.max_context,
        "weight_format": spec.formats["default"],
        "weights_gb": from_si(sum(spec.weight_bytes().values()), "GB"),
        "kv_format": spec.kv_format,
        "kv_kb_per_token": from_si(spec.kv_bytes_per_token(), "kB"),
        "state_kb": from_si(spec.state_bytes(), "kB"),
        "source": spec.source,
    }


def select(rows: Sequence[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    """The rows whose columns equal what is wanted (case aside); an empty wish matches everything.

    Raises `UnknownName` for a value that no row has.
    """
    kept = list(rows)
    for column, value in wanted.items():
        known = sorted({str(row[column]) for row in rows})
        if value and value.lower() not in (k.lower() for k in known):
            raise UnknownName(column, value, known, f"({', '.join(known)})")
        kept = [row for row in kept if not value or str(row[column]).lower() == value.lower()]
    return kept


def upright(row: dict[str, Any]) -> list[dict[str, Any]]:
    """One row turned into two columns, for reading."""
    return [{"figure": heading(column), "value": value} for column, value in row.items() if _known(value)]
