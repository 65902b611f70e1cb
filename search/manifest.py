"""Record what a result rests on: version, hashes of inputs and data, seed, solver, prices, command.

With the manifest, the result can be made again.
"""

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
from perfmodel.arrays import NAN

#: Hexadecimal digits that are kept of a sha256. Chosen: 64 bits tell files apart.
HASH_DIGITS = 16
#: Kinds of shipped data -> (package, folder) pairs that hold them.
DATA = {
    "hardware": (("hwdb", "devices"), ("hwdb", "nodes"), ("hwdb", "prices")),
    "models": (("perfmodel", "models/catalogue"),),
    "engines": (("perfmodel", "engines/catalogue"),),
}


@dataclass(frozen=True)
class Manifest:
    """Record of what a result rests on.

    scenario, scenario_sha256: path and hash of the file. hardware_sha256, models_sha256, engines_sha256: hash of each
    kind of shipped data. searcher: name and settings. solver, gap: "" and NaN where no integer program was solved.
    prices: dates of the prices used, oldest to newest. command: as typed.
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
        """Return the manifest as one flat record."""
        return asdict(self)


def manifest(
    scenario: str,
    *,
    seed: int = 0,
    searcher: str = "",
    solver: str = "",
    gap: float = NAN,
    price_dates: Iterable[str] = (),
    command: str = "",
) -> Manifest:
    """Make the manifest of a result that is made now.

    Args:
        scenario: path of the scenario file.
        seed: of the search.
        searcher: name of the searcher, with its settings.
        solver: name of the solver of the integer program.
        gap: relative distance between the result and the proven bound.
        price_dates: dates of the prices used; "" is skipped.
        command: by default the command line.
    """
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
    """Compute a hash over names and contents of the data files of a kind (a key of `DATA`)."""
    found = sorted(_files(kind), key=lambda item: item[0])
    return _short(b"".join(name.encode() + b"\0" + item.read_bytes() for name, item in found))


def _files(kind: str) -> Iterable[tuple[str, Traversable]]:
    """Yield (name, file) of each data file of a kind (a key of `DATA`)."""
    for package, folder in DATA[kind]:
        where = files(package).joinpath(folder)
        yield from ((f"{package}/{folder}/{f.name}", f) for f in where.iterdir() if f.name.endswith(".toml"))


def _short(content: bytes) -> str:
    """Return the first `HASH_DIGITS` hexadecimal digits of the sha256 of `content`."""
    return hashlib.sha256(content).hexdigest()[:HASH_DIGITS]
