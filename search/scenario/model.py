"""Read the `[model]` table of a scenario: a name, a `config.json`, or the sizes of a model that has neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwdb.tomlfile import Table
from perfmodel import ModelSpec
from perfmodel import model as model_of
from perfmodel.arrays import NAN
from perfmodel.models import Described
from search.scenario.workload import relay

#: Whole numbers of a model that is described by its sizes.
SIZES = (
    "layers",
    "hidden",
    "heads",
    "kv_heads",
    "head_dim",
    "vocabulary",
    "intermediate",
    "experts",
    "experts_per_token",
    "max_context",
)
COUNTS = ("parameters", "active_parameters")
#: Least number of parameters that is taken at its word; less is most likely meant in billions.
_LEAST_PARAMETERS = 1e6
#: Factor of the letter behind a printed number of parameters.
_UNITS = {"M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Model:
    """The model of a scenario.

    name: in the catalogue, the path of a `config.json`, or the label of `described`; "" without a model. described: a
    model of stated sizes. allow_long_context: whether requests may exceed its context.
    """

    name: str = ""
    described: ModelSpec | None = None
    allow_long_context: bool = False


def read_model(top: Table, folder: Path) -> Model:
    """Read the `[model]` table of the scenario `top`; file names in it are relative to `folder`.

    The name is "" without such a table, and in a fleet whose table only has `allow_long_context`.
    """
    if "model" not in top:
        return Model()
    table = top.table("model")
    allowed = table.flag("allow_long_context", False)
    sizes = [key for key in (*SIZES, *COUNTS) if key in table]
    if sizes:
        label = table.text("name", "own model")
        described = _described(table, label)
        table.done()
        return Model(label, described, allowed)
    only_a_switch = "allow_long_context" in table and "name" not in table and "fleet" in top
    name = "" if "config" in table or only_a_switch else table.text("name")
    config = table.text("config", "")
    table.done(also=("name", "allow_long_context", *COUNTS, *SIZES))
    if config:
        path = folder / config
        if not path.is_file():
            raise table.error("config", f"no file {str(path)!r}; give the path of a config.json")
        return Model(str(path), None, allowed)
    if name:
        relay(table, "name", model_of, name)
    return Model(name, None, allowed)


def _described(table: Table, name: str) -> ModelSpec:
    """Return the model whose sizes the table states."""
    if "config" in table:
        raise table.error("config", "sizes are stated too; give either a config or sizes")
    sizes = {key: table.whole(key, 0, least=1) for key in SIZES}
    total, active = (_count(table, key) for key in COUNTS)
    stated = Described(name=name, parameters=total, active_parameters=active, **sizes)
    return relay(table, "", stated.model)


def _count(table: Table, key: str) -> float:
    """Read a number of parameters: 70.6e9, or as printed, "70.6B"; 0 where the key is absent."""
    if key not in table:
        return 0.0
    value = table.get(key)
    if isinstance(value, str):
        number, unit = value.strip()[:-1], value.strip()[-1:].upper()
        try:
            count = float(number) * _UNITS[unit]
        except (ValueError, KeyError):
            count = NAN
    else:
        count = table.number(key, above=0)
    if not _LEAST_PARAMETERS <= count < float("inf"):
        raise table.error(key, f'{value!r} is no number of parameters; write it like "70.6B" or 70.6e9')
    return count
