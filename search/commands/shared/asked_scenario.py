"""Read the scenario that a command line asks for: of a file, with what options change, or of a model and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwdb import Hwdb, InputError, load, outfile
from search.options import LOAD_KEYS, AskedWorkloadOptions, OfferOptions, SloOptions, Tables, bounds_of

if TYPE_CHECKING:
    from hwdb.tomlfile import Table
    from search.scenario import Scenario

#: Ranking where options name a model, but no load. As much as the hardware serves costs least per hour on the smallest
#: hardware, whatever that serves, so that such plans are compared by the token.
RANKING_WITHOUT_LOAD = "usd_per_million_tokens"
#: Keys of `[workload]` that state a load: directly, or as the rate of what was recorded.
STATES_LOAD = (*LOAD_KEYS, "dataset", "trace")


def asked_scenario(
    written: str,
    workload: AskedWorkloadOptions,
    slo: SloOptions,
    offer: OfferOptions,
    folders: Sequence[Path],
    own: Tables,
) -> Scenario:
    """Return the scenario of a command line, and write it where that is asked for.

    written: path of a scenario file, whose keys the options change, or the name of a model, which the options
    complete to a scenario. folders: of the user's own hardware files. own: further tables that the command states.
    Raises `InputError`.
    """
    from search.scenario import read_scenario, with_changes

    of_file = _names_a_file(written)
    top = _table_of_file(written) if of_file else _table_of_model(written)
    database = load(folders)
    told: Tables = {"workload": workload.table(of_file=of_file), **offer.tables(database)}
    stated = {table: keys for table, keys in (told | own).items() if keys}
    values = with_changes(with_changes(deepcopy(dict(top.values)), stated), bounds_of(slo))
    for text in offer.set_ or ():
        _set(values, text)
    if not of_file:
        _complete(values, database)
    top.values = values
    source = Path(written) if of_file else None
    found = read_scenario(top, source.parent if source else Path(), folders)
    if offer.save is None:
        return found
    return replace(found, path=str(_save(_with_folders(values, folders), offer.save, source)))


def _complete(values: dict[str, Any], database: Hwdb) -> None:
    """Add what a model and options leave open to the tables `values`: the hardware on offer and the ranking."""
    rest = values.get("hardware", {})
    if isinstance(rest, dict) and not {"devices", "nodes"} & set(rest):
        values["hardware"] = {"devices": _priced(database, str(rest.get("prices", "on_demand"))), **rest}
    if not set(STATES_LOAD) & set(values["workload"]) and "objective" not in values:
        values["objective"] = {"rank_by": RANKING_WITHOUT_LOAD}


def _with_folders(values: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Return the tables with the folders of hardware files that the command line names, to be found again."""
    from search.scenario import with_changes

    more = [str(folder.resolve()) for folder in folders]
    own = [*values.get("hardware", {}).get("folders", ()), *more]
    return with_changes(values, {"hardware": {"folders": own}}) if own else dict(values)


def _names_a_file(written: str) -> bool:
    """Return whether a scenario file is meant rather than a model, its `config.json` or the folder of a checkpoint."""
    path = Path(written)
    is_model = path.suffix == ".json" or (path / "config.json").is_file()
    return path.suffix == ".toml" or (path.exists() and not is_model)


def _table_of_file(path: str) -> Table:
    """Return the top table of a scenario file."""
    from hwdb.tomlfile import read_toml
    from perfmodel.vocabulary import FORMER_NAMES

    return read_toml(path, "scenario", FORMER_NAMES)


def _table_of_model(name: str) -> Table:
    """Return the tables that the name of a model, or the path of its `config.json`, gives a scenario."""
    from hwdb.tomlfile import Table
    from perfmodel import model
    from perfmodel.vocabulary import FORMER_NAMES
    from search.scenario import COMMAND_LINE

    try:
        spec = model(name)
    except InputError as error:
        raise InputError(f"{name!r} is no scenario file; taken for a model: {error}") from None
    path = Path(name, "config.json") if Path(name).is_dir() else Path(name)
    table = {"config": str(path.resolve())} if path.is_file() else {"name": name}
    values = {"title": spec.name.split("/")[-1], "model": table}
    return Table(values, COMMAND_LINE, former=FORMER_NAMES)


def _set(values: dict[str, Any], text: str) -> None:
    """Set one key of the tables `values` as `KEY=VALUE` says; no value takes the key out."""
    from search.whatif import meant_as_text, read_edit

    edit = read_edit(text)
    if edit.operator != "=" or len(edit.path) < 2 or edit.path[0] in ("device", "node"):
        raise InputError(
            f"--set {text}: write TABLE.KEY=VALUE, such as limits.power_kw=40; whatif --set takes the rest"
        )
    here: Any = values
    for part in edit.path[:-1]:
        here = here.setdefault(part, {})
        if not isinstance(here, dict):
            raise InputError(f"--set {text}: {part} has no keys; set it itself, or edit the file")
    key = edit.path[-1]
    value = edit.raw if meant_as_text(edit, here.get(key)) else edit.value
    if value is None:
        here.pop(key, None)
    else:
        here[key] = value


def _priced(database: Hwdb, kind: str) -> list[str]:
    """Return the devices whose price is known. kind: of price that counts."""
    import numpy as np

    from search.planning import tariff

    names = tuple(database.names())
    usd = tariff(database, names, (), kind, {}).usd_per_hour
    return [name for name, price in zip(names, usd, strict=True) if np.isfinite(price)]


def _save(values: Mapping[str, Any], path: Path, source: Path | None) -> Path:
    """Write the tables of a scenario as a file; return its path. source: the file that they come from, if any."""
    from hwdb.tomltext import as_toml

    if source is not None and source.parent.resolve() != path.parent.resolve():
        raise InputError(
            f"--save {path}: file names in {source} are relative to its folder; give a path in {source.parent}"
        )
    outfile.check(path, *((source,) if source else ()))
    outfile.write_text(path, as_toml(values, "scenario"))
    return path
