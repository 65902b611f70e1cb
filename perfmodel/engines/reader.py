"""Read engine files: settings with kind and source, defaults by device, and what a file inherits from others.

A setting may also be written under its name in the engine's own command line (see `own_words`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hwdb.tomlfile import Table, read_toml
from perfmodel.engines.own_words import read_own_words, spellings
from perfmodel.engines.settings import SETTINGS
from perfmodel.engines.spec import GIB, KINDS, Engine, Fact, Tier
from perfmodel.engines.versions import numbers_in
from perfmodel.vocabulary import FORMER_NAMES

#: The engine files that ship, one per engine and era.
FOLDER = Path(__file__).parent / "catalogue"
#: Settings of every engine whose file, and whose family's file, leave them out.
DEFAULTS = Path(__file__).with_name("defaults.toml")
_WHAT = "engine file"
_KEYS = frozenset(s.key for s in SETTINGS)
#: Limits that a `[[tier]]` may set; `_offline` ones hold for batch use without a server.
_TIER_NUMBERS = (
    "max_num_batched_tokens",
    "max_num_batched_tokens_offline",
    "max_num_seqs",
    "max_num_seqs_offline",
    "gpu_memory_utilization",
    "graph_seqs",
)
#: The limits themselves, fields of `Engine`.
_LIMITS = tuple(k for k in _TIER_NUMBERS if not k.endswith("_offline"))


@dataclass(frozen=True)
class Stated:
    """Holds what one engine file says.

    settings, facts: value and source of each setting, by field of `Engine`. own_words: names of settings in the
    engine's own command line -> names here.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    own_words: dict[str, str] = field(default_factory=dict)

    def over(self, base: Stated) -> Stated:
        """Return what this file says, completed by what `base` says where this file says nothing."""
        return Stated(
            settings=base.settings | self.settings,
            facts=base.facts | self.facts,
            own_words=base.own_words | self.own_words,
        )


def load_engine(path: str | Path) -> Engine:
    """Read the engine that the TOML file at `path` describes; `InputError` names file, line and key of what is wrong.

    Optional keys that the file leaves out and that `SETTINGS` marks as inherited come from the shipped file of the same
    name, else of the family, else from `defaults.toml`. Settings may be named as in the engine's own command line.
    """
    base, table = _in_common_words(Path(path))
    stated = _stated(table, inherited_only=False).over(base)
    name = table.text("name")
    made = Engine(
        name=name,
        family=table.text("family", name),
        title=table.text("title"),
        era=table.text("era"),
        since=numbers_in(since := table.text("since", ""), builds=since.startswith("b")),
        aliases=table.texts("aliases", ()),
        builds=table.texts("builds", ()),
        tiers=tuple(_tier(t) for t in table.tables("tier", ())),
        own_words=tuple(stated.own_words.items()),
        in_process=_in_process(table),
        facts=stated.facts,
        **stated.settings,
    )
    table.done(also=(*_KEYS, "own_words", "in_process"))
    _check_shares(table, made)
    return made if Path(path).parent == FOLDER else _over_shipped_tiers(made)


def _over_shipped_tiers(made: Engine) -> Engine:
    """Return the engine `made` of a user's file with the limits that the user changed holding on every device.

    Such a file is often a copy of a shipped one. A limit at its top that differs from the shipped file's is the user's,
    and wins over tiers that were copied as they are; tiers of the user's own keep winning over the limits at the top.
    """
    file = next((f for n in (made.name, made.family) if (f := FOLDER / f"{n}.toml").is_file()), None)
    if file is None:
        return made
    shipped = load_engine(file)
    stated = {name for name in _LIMITS if getattr(made, name) != getattr(shipped, name)}
    tiers = tuple(tier.without(stated) if tier in shipped.tiers else tier for tier in made.tiers)
    by_length = made.budget_is_model_length and not (
        "max_num_batched_tokens" in stated and shipped.budget_is_model_length
    )
    return replace(made, tiers=tiers, budget_is_model_length=by_length)


def _in_common_words(path: Path) -> tuple[Stated, Table]:
    """Read the engine file at `path`, with every setting under its name here.

    Returns (what the file inherits, with the names that its engine's own command line uses; the file's top table, where
    those names are replaced by the names here).
    """
    plain = read_toml(path, _WHAT, FORMER_NAMES)
    name = plain.text("name")
    inherited = _inherited(path, name, plain.text("family", name))
    base = Stated(own_words=read_own_words(plain, _KEYS)).over(inherited)
    used = [spellings(table, base.own_words) for table in (plain, *plain.tables("tier", ()))]
    return base, read_toml(path, _WHAT, {**FORMER_NAMES, **base.own_words}) if any(used) else plain


def _inherited(path: Path, name: str, family: str) -> Stated:
    """Collect what the engine file at `path`, of engine `name` of `family`, inherits; `load_engine` gives the order."""
    found = Stated()
    for file in (DEFAULTS, FOLDER / f"{family}.toml", FOLDER / f"{name}.toml"):
        if file != path and file.is_file():
            found = _heritage(file).over(found)
    return found


class Defaults(NamedTuple):
    """Holds the settings of engines whose files leave them out, and of runs that name no engine; fields of `Engine`."""

    library_kernels: tuple[str, ...]
    kernel_launches: tuple[tuple[str, float], ...]


@cache
def defaults() -> Defaults:
    """Read the settings of `defaults.toml`."""
    return Defaults(**_heritage(DEFAULTS).settings)


@cache
def _heritage(file: Path) -> Stated:
    """Read what the shipped engine file `file` passes on to files that inherit from it."""
    table = read_toml(file, _WHAT, FORMER_NAMES)
    return Stated(own_words=read_own_words(table, _KEYS)).over(_stated(table, inherited_only=True))


def _stated(table: Table, *, inherited_only: bool) -> Stated:
    """Read the settings and their sources from `table`, the top table of an engine file.

    inherited_only: read only settings that other files inherit. Raises `InputError` for a required key that is missing.
    """
    found = Stated()
    for setting in SETTINGS:
        if (inherited_only and not setting.inherited) or (setting.optional and setting.key not in table):
            continue
        entry = table.table(setting.key)
        kind, source = entry.text("kind", choices=KINDS), entry.text("source")
        found.facts[setting.field] = Fact(
            value=entry.get("value"), kind=kind, source=source, note=entry.text("note", "")
        )
        found.settings[setting.field] = setting.read(table, setting.key, entry)
        entry.done()
    return found


def _in_process(table: Table) -> tuple[tuple[str, Any], ...]:
    """Read the settings in `[in_process]`, each with kind and source, as (field of `Engine`, value); () without any."""
    if "in_process" not in table:
        return ()
    inner = table.table("in_process")
    found = []
    for setting in (one for one in SETTINGS if one.key in inner):
        entry = inner.table(setting.key)
        entry.text("kind", choices=KINDS)
        entry.text("source")
        entry.text("note", "")
        found.append((setting.field, setting.read(inner, setting.key, entry)))
        entry.done()
    inner.done()
    return tuple(found)


def _tier(table: Table) -> Tier:
    """Read the defaults for some devices from `table`, one `[[tier]]` of an engine file."""
    values = [(k, table.number(k, above=0)) for k in _TIER_NUMBERS if k in table]
    tier = Tier(
        at_least=table.number("at_least_gib", 0.0, least=0) * GIB,
        below=table.number("below_gib", math.inf, above=0) * GIB,
        devices=table.number("at_least_devices", 1.0, least=1),
        kinds=table.texts("kinds", ()),
        named=table.texts("named", ()),
        not_named=table.texts("not_named", ()),
        per_device=table.flag("per_device", False),
        values=tuple(values),
    )
    table.text("source")
    table.done(also=_TIER_NUMBERS)
    return tier


def _check_shares(table: Table, made: Engine) -> None:
    """Raise `InputError` where the engine `made` from `table` has a share outside 0 to 1; NaN (unknown) is accepted.

    `gpu_memory_utilization` has to be above 0; `overlap_share` may be 0: nothing hides.
    """
    memory, overlap = made.gpu_memory_utilization, made.overlap_share
    for key, share, fine in (
        ("gpu_memory_utilization", memory, 0 < memory <= 1),
        ("overlap_share", overlap, 0 <= overlap <= 1),
    ):
        if not (fine or math.isnan(share)):
            raise table.error(key, f"value {share:g} is not a share; give it between 0 and 1")
