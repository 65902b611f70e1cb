"""Turn devices, nodes and models into flat rows; the unit stands at the end of each column's name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hwdb import PEAKS, Device, Hwdb, Node, Price, UnknownName, from_si
from search.output.headings import heading
from search.output.value_format import is_known, text_of

if TYPE_CHECKING:
    from perfmodel import ModelSpec

#: Columns of a device that `hw list` prints; JSON and CSV have all of them.
DEVICE_COLUMNS = (
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
#: Columns that a narrow terminal leaves out of the lists of devices, of nodes, of models, the least important first.
DEVICES_DROP = ("title", "kind", "link_gb_s", "fp4_tflops", "tdp_w", "fp8_tflops")
NODES_DROP = ("title", "sockets", "link_topology", "host_w", "total_w", "net_gb_s")
MODELS_DROP = ("heads", "kv_heads", "layers", "experts", "kv_kb_per_token", "active_billion", "weights_gb")
DEVICE_NOTE = "Peaks are dense rates; – is unknown. Figures and sources: perfmodel hw show NAME"
#: Columns of a model that `models list` prints.
MODEL_COLUMNS = (
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
    """Return the main quantities of a device, NaN where unknown.

    prices: any prices; the row has the cheapest one of this device.
    """
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
    """Return every device of the database, one row per device."""
    prices = hwdb.prices()
    return [device_row(device, prices) for device in hwdb.devices()]


def figure_rows(device: Device, prices: Iterable[Price] = ()) -> list[dict[str, Any]]:
    """Return one row per numeric quantity of a device file with its source, then one per ridge point and per price."""
    rated: list[dict[str, Any]] = [
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
    derived = [
        {"figure": f"ridge.{t}", "value": v, "unit": "FLOP/B", "kind": "derived", "source": source, "note": ""}
        for t, v in ridges.items()
        if v == v
    ]
    return [*rated, *derived, *(_price_row(p) for p in prices)]


def _price_row(price: Price) -> dict[str, Any]:
    """Return a price as a row of `figure_rows`: USD per hour and device, with source and date."""
    return {
        "figure": f"price.{price.kind}",
        "value": price.usd_per_hour,
        "unit": "USD/h",
        "kind": "assumed" if price.assumed else "rated",
        "source": price.source,
        "note": ", ".join(x for x in (price.provider, price.region, price.date, price.note) if x),
    }


def comparison_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Transpose device rows: one row per quantity, one column per device. Quantities unknown of all are left out."""
    shown = [c for c in rows[0] if c != "name" and any(is_known(row[c]) for row in rows)]
    return [{"figure": heading(c), **{row["name"]: text_of(c, row[c]) for row in rows}} for c in shown]


def node_row(node: Node) -> dict[str, Any]:
    """Return the main quantities of a node (server)."""
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
    """Return the dimensions of a model.

    KV-cache bytes per token are those of full attention, without any sliding window.
    """
    return {
        "name": spec.name,
        "architecture": spec.architecture,
        "parameters_billion": spec.parameters() / 1e9,
        "active_billion": spec.parameters(active=True) / 1e9,
        "encoder_billion": spec.encoder_parameters / 1e9,
        "layers": spec.layers,
        "hidden": spec.hidden,
        "heads": spec.heads,
        "kv_heads": spec.kv_heads if spec.kv_bytes_per_token() else float("nan"),
        "experts": spec.experts,
        "vocabulary": spec.vocab,
        "max_context": spec.max_context or float("nan"),
        "weight_format": spec.weight_format,
        "weights_gb": from_si(sum(spec.weight_bytes().values()), "GB"),
        "kv_format": spec.kv_format,
        "kv_kb_per_token": from_si(spec.kv_bytes_per_token(), "kB"),
        "state_kb": from_si(spec.state_bytes(), "kB"),
        "source": spec.source,
        "note": spec.assumed,
    }


def matching_rows(rows: Sequence[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    """Return the rows whose columns equal the wanted values, ignoring case; an empty value matches every row.

    Raises `UnknownName` for a value that no row has.
    """
    kept = list(rows)
    for column, value in wanted.items():
        known = sorted({str(row[column]) for row in rows})
        if value and value.lower() not in (k.lower() for k in known):
            raise UnknownName(column, value, known, f"({', '.join(known)})")
        kept = [row for row in kept if not value or str(row[column]).lower() == value.lower()]
    return kept
