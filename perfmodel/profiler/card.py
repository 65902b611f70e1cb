"""The card beside a file of measured rows: what machine they are of. Written by a run, read by a fit."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from hwdb import InputError
from perfmodel.profiler.backends.protocol import Backend
from perfmodel.profiler.machine import Machine

SUFFIX = ".machine.json"
KEYS = ("title", "vendor", "kind", "software", "memory_bytes", "cache_bytes", "cores", "sockets", "tdp_w", "date")


@dataclass(frozen=True)
class Card:
    """What was measured. memory_bytes, cache_bytes, tdp_w: NaN where unknown; cores: logical processors of the host
    that the run could use; sockets: sockets they lie on; software: libraries, "; " between several; date: ISO day."""

    title: str
    vendor: str
    kind: str
    software: str
    memory_bytes: float
    cache_bytes: float
    cores: int
    sockets: int
    tdp_w: float
    date: str


def place(rows: Path) -> Path:
    """Where the card of a rows file lies.

    >>> place(Path("mine.csv")).name
    'mine.csv.machine.json'
    """
    return rows.with_name(rows.name + SUFFIX)


def make(backend: Backend, host: Machine, date: str) -> Card:
    """The card of a backend on a host."""
    gpu = backend.kind == "gpu"
    return Card(
        title=backend.title,
        vendor=backend.vendor,
        kind=backend.kind,
        software=backend.software,
        memory_bytes=backend.memory,
        cache_bytes=float("nan") if gpu else host.cache,
        cores=host.cores,
        sockets=len(host.sockets),
        tdp_w=backend.meter.limit if backend.meter else float("nan"),
        date=date,
    )


def write(card: Card, rows: Path) -> None:
    """Write the card of a rows file; what an earlier run of other software on the same machine wrote is joined."""
    old = read(rows)
    if old is not None:
        if old.title != card.title:
            raise InputError(
                f"{rows}: holds rows of {old.title!r}, this machine is {card.title!r}; give another file with --output"
            )
        known = [s for s in old.software.split("; ") if s != card.software]
        card = Card(**{**asdict(card), "software": "; ".join([*known, card.software])})
    content = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(card).items()}
    place(rows).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(rows: Path) -> Card | None:
    """The card of a rows file, None if it has none; `InputError` if it is malformed."""
    path = place(rows)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = {key: content[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the card that `perfmodel profile run` writes ({error!r})") from error
    for key in ("memory_bytes", "cache_bytes", "tdp_w"):
        values[key] = float("nan") if values[key] is None else float(values[key])
    return Card(**values)
