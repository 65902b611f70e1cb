"""Read and write the machine card: a JSON file next to a file of measured rows that describes the measured machine.

`perfmodel profile run` writes it; `perfmodel profile fit` reads it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from hwdb import InputError, infile, jsonfile, outfile
from perfmodel.arrays import NAN
from perfmodel.profiler.backends.protocol import Backend
from perfmodel.profiler.machine import Machine

#: Suffix of the card's file name; keys of its JSON object.
SUFFIX = ".machine.json"
KEYS = ("title", "vendor", "kind", "software", "memory_bytes", "cache_bytes", "cores", "sockets", "tdp_w", "date")


@dataclass(frozen=True)
class Card:
    """Describe the measured machine.

    title: name of the processor or GPU. kind: as in hwdb ("cpu", "gpu"). software: libraries, separated by "; ".
    memory_bytes, cache_bytes, tdp_w: NaN where unknown. cores: logical processors of the host that the run could use.
    sockets: number of sockets that these belong to. date: day, ISO 8601.
    """

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
    """Return the path of the machine card that belongs to a file of measured rows.

    >>> place(Path("mine.csv")).name
    'mine.csv.machine.json'
    """
    return rows.with_name(rows.name + SUFFIX)


def make(backend: Backend, host: Machine, date: str) -> Card:
    """Make the machine card of the device that `backend` measures on `host`. date: day, ISO 8601."""
    gpu = backend.kind == "gpu"
    return Card(
        title=backend.title,
        vendor=backend.vendor,
        kind=backend.kind,
        software=backend.software,
        memory_bytes=backend.memory,
        cache_bytes=NAN if gpu else host.cache,
        cores=host.cores,
        sockets=len(host.sockets),
        tdp_w=backend.meter.limit if backend.meter else NAN,
        date=date,
    )


def write(card: Card, rows: Path) -> None:
    """Write the machine card of the file `rows`. Software of earlier runs on the same machine is kept.

    Raises `InputError` if the file has rows of another machine.
    """
    old = read(rows)
    if old is not None:
        if old.title != card.title:
            raise InputError(
                f"{rows}: holds rows of {old.title!r}, this machine is {card.title!r}; give another file with --output"
            )
        known = [s for s in old.software.split("; ") if s != card.software]
        card = Card(**{**asdict(card), "software": "; ".join([*known, card.software])})
    content = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(card).items()}
    outfile.write_text(place(rows), json.dumps(content, indent=1) + "\n")


def read(rows: Path) -> Card | None:
    """Read the machine card of the file `rows`; None if it has none. Raises `InputError` if the card is malformed."""
    path = place(rows)
    if not path.exists():
        return None
    try:
        content = jsonfile.parse(infile.read_bytes(path, "machine card", infile.MOST_CONFIG).decode("utf-8"))
        values = {key: content[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the card that `perfmodel profile run` writes ({error!r})") from error
    for key in ("memory_bytes", "cache_bytes", "tdp_w"):
        values[key] = NAN if values[key] is None else float(values[key])
    return Card(**values)
