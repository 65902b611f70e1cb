"""What made a result, so that it can be made again: version, data, seed, solver, prices, command."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from perfmodel import __version__

#: Data that a result rests on, by the package that carries it.
DATA = {
    "hardware": (("hwdb", "devices"), ("hwdb", "nodes"), ("hwdb", "prices")),
    "models": (("perfmodel", "models/catalogue"),),
    "engines": (("perfmodel", "engines/catalogue"),),
}


@dataclass(frozen=True)
class Manifest:
    """How to make a result again.

    scenario: path and sha256 of the file. data: sha256 of each kind of data that ships. solver and gap: "" and NaN
    where no program was solved. prices: dates of the prices used, oldest and newest. command: as typed.
    """

    version: str
    scenario: str
    scenario_sha256: str
    hardware_sha256: str
    models_sha256: str
    engines_sha256: str
    seed: int
    searcher: str
    solver: str
    gap: float
    prices: str
    command: str

    def row(self) -> dict[str, Any]:
        """As one flat record."""
        return asdict(self)


def manifest(
    scenario: str,
    *,
    seed: int = 0,
    searcher: str = "",
    solver: str = "",
    gap: float = float("nan"),
    price_dates: Iterable[str] = (),
    command: str = "",
) -> Manifest:
    """The manifest of a result made now from the scenario file at path `scenario`."""
    dates = sorted(d for d in price_dates if d)
    path = Path(scenario)
    return Manifest(
        version=__version__,
        scenario=scenario,
        scenario_sha256=_short(path.read_bytes()) if path.is_file() else "",
        seed=seed,
        searcher=searcher,
        solver=solver,
        gap=gap,
        prices=" to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
        command=command or " ".join(["perfmodel", *sys.argv[1:]]),
        **{f"{kind}_sha256": data_hash(kind) for kind in DATA},
    )


@cache
def data_hash(kind: str) -> str:
    """First 16 digits of the sha256 over names and contents of the data files of a kind."""
    found = sorted(_files(kind), key=lambda item: item[0])
    return _short(b"".join(name.encode() + b"\0" + item.read_bytes() for name, item in found))


def _files(kind: str) -> Iterable[tuple[str, Traversable]]:
    for package, folder in DATA[kind]:
        where = files(package).joinpath(folder)
        yield from ((f"{package}/{folder}/{f.name}", f) for f in where.iterdir() if f.name.endswith(".toml"))


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
