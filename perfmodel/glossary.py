"""The glossary: what every flag, column, scenario key and word means, read from `perfmodel/glossary.toml`.

The names of a family of columns are one entry: `ttft_ms_p99_lo` is `ttft_ms`, a percentile of it, and the lower end of
its interval. `SUFFIXES`, `PREFIXES` and the number formats are the rules for that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from hwdb import PEAKS, UnknownName
from hwdb.tomlfile import Table, read_toml

FILE = Path(__file__).with_suffix(".toml")
#: Suffixes of a name -> what they add to its meaning.
SUFFIXES = {
    "_p50": "median over requests",
    "_p90": "90th percentile over requests",
    "_p95": "95th percentile over requests",
    "_p99": "99th percentile over requests",
    "_lo": "lower end of the 80 % interval of the estimate",
    "_hi": "upper end of the 80 % interval of the estimate",
    "_chance": "probability that the bound on it holds",
    "_ci95": "half width of the 95 % confidence interval of the simulation",
    "_ci95_low": "lower end of the 95 % confidence interval of the simulation",
    "_ci95_high": "upper end of the 95 % confidence interval of the simulation",
    "_limit": "the most that the SLO allows",
    "_kept": "whether the simulation stays within what the SLO allows",
}
#: Prefixes of a name -> what they add to its meaning.
PREFIXES = {
    "prefill_": "of the prefill pool",
    "decode_": "of the decode pool",
    "simulated_": "as simulated, not estimated",
    "closed_form_": "as estimated in closed form, not simulated",
}
#: Stands for a number format, such as bf16, in the name of an entry.
FORMAT = "<format>"
#: Key of a kind's table that says what the kind holds; it is no entry.
ABOUT = "about"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One name with one meaning.

    name: as it is written, flags without dashes and with underscores. kind: the quantity or part of the program that it
    belongs to. meaning: one sentence. unit: "" for words. places: where it appears: "flag", "column", "case",
    "scenario" (top level of a scenario), "[table]" of a scenario, or "word". paper: what papers call it, "" where it is
    not stated. former: spellings that are still read for one release. others: what other tools call it; not read.
    """

    name: str
    kind: str
    meaning: str
    unit: str = ""
    places: tuple[str, ...] = ()
    paper: str = ""
    former: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@cache
def entries() -> tuple[Entry, ...]:
    """Return every entry, by kind. A name with several meanings has an entry in each of several kinds."""
    top = read_toml(FILE, "glossary")
    return tuple(entry for kind in top.keys() for entry in _entries_of(top.table(kind), kind))  # noqa: SIM118


@cache
def kinds() -> dict[str, str]:
    """Return the kinds of names, in the order of the file, with what each of them holds."""
    top = read_toml(FILE, "glossary")
    return {kind: top.table(kind).text(ABOUT) for kind in top.keys()}  # noqa: SIM118 - a Table is no mapping


def explain(word: str) -> tuple[Entry, ...]:
    """Return the entries of a word, one per meaning.

    Case, dashes and underscores do not matter. Former spellings are known, and so are the words of other tools.

    Raises `UnknownName` with the nearest names.

    >>> [(e.name, e.unit) for e in explain("--TTFT-ms")]
    [('ttft_ms', 'ms')]
    >>> [e.name for e in explain("sp")], [e.name for e in explain("--qps")]
    (['cp'], ['request_rate_rps'])
    """
    known: dict[str, list[Entry]] = {}
    for entry in entries():
        for spelling in (entry.name, *entry.former):
            known.setdefault(plain(spelling), []).append(entry)
    for other, meant in elsewhere().items():
        known.setdefault(other, list(meant))
    found = parts(plain(word), known)
    if found is None:
        raise UnknownName("word", word, known, "(perfmodel explain lists all)")
    name, additions = found
    if not additions:
        return tuple(known[name])
    return tuple(replace(e, name=word, meaning=f"{e.meaning} Here: {', '.join(additions)}.") for e in known[name])


@cache
def elsewhere() -> dict[str, tuple[Entry, ...]]:
    """Return word of other tools, as `plain` gives it -> the entries that say the same here."""
    found: dict[str, list[Entry]] = {}
    for entry in entries():
        for other in entry.others:
            found.setdefault(plain(other), []).append(entry)
    return {other: tuple(meant) for other, meant in found.items()}


def parts(name: str, known: Collection[str]) -> tuple[str, tuple[str, ...]] | None:
    """Split a column's name into a name of `known` and the meanings of its suffixes, prefixes and number format.

    None where there is none.

    >>> parts("simulated_ttft_ms_p99", ["ttft_ms"])
    ('ttft_ms', ('as simulated, not estimated', '99th percentile over requests'))
    >>> parts("bf16_tflops", ["<format>_tflops"])
    ('<format>_tflops', ('in bf16',))
    """
    if name in known:
        return name, ()
    shorter = [(name.removesuffix(end), more) for end, more in SUFFIXES.items() if name.endswith(end)]
    shorter += [(name.removeprefix(start), more) for start, more in PREFIXES.items() if name.startswith(start)]
    shorter += [(name.replace(f, FORMAT), f"in {f}") for f in PEAKS if f in name.split("_")]
    for rest, more in shorter:
        if found := parts(rest, known):
            return found[0], (*found[1], more)
    return None


def plain(word: str) -> str:
    """Return a word in lower case, with underscores for dashes and spaces, and without leading dashes."""
    return word.strip().lstrip("-").lower().replace("-", "_").replace(" ", "_")


def _entries_of(table: Table, kind: str) -> Iterator[Entry]:
    """Yield the entries in the table of a kind."""
    for name in table.keys():  # noqa: SIM118 - a Table is no mapping
        if name != ABOUT:
            yield _entry(table.table(name), name, kind)


def _entry(table: Table, name: str, kind: str) -> Entry:
    """Read the entry called `name` from the table of its kind."""
    entry = Entry(
        name=name,
        kind=kind,
        meaning=table.text("meaning"),
        unit=table.text("unit", ""),
        places=table.texts("in"),
        paper=table.text("paper", ""),
        former=table.texts("former", ()),
        others=table.texts("others", ()),
    )
    table.done()
    return entry
