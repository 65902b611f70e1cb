"""Resolve the names in a table of cases: models, devices, number formats, engines, speculation, data sets.

Each distinct name is looked up once. A row with an unknown name is refused with the look-up's own message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from hwdb import Device, Hwdb, InputError, PerfmodelError
from perfmodel.arrays import Index
from perfmodel.cases.read import Cases, Texts
from perfmodel.cases.table import EMPTY
from perfmodel.deployment import SUSPECTED, Speculation, speculation
from perfmodel.dtypes import COMPUTE_CODE, FORMAT_CODE, storage
from perfmodel.engines import Engine
from perfmodel.engines import engine as engine_of
from perfmodel.models import ModelSpec, model
from perfmodel.workload import LengthStats, lengths

Value = TypeVar("Value")
#: Joins the name of an engine and its version in one key; a tab stands in neither.
_JOIN = "\t"


@dataclass(frozen=True)
class Named(Generic[Value]):
    """Holds the distinct values of a column, and which of them each row has: `index` (R,), -1 where the name is
    unknown.
    """

    values: tuple[Value, ...]
    index: Index

    def per_row(self, read: Callable[[Value], Any], missing: Any) -> NDArray[Any]:
        """Return `read(value)` of each row's value, (R,); `missing` where the row's name is unknown."""
        return np.array([*(read(v) for v in self.values), missing])[self.index]


@dataclass(frozen=True)
class Resolved:
    """Holds what the names of R rows stand for.

    weight, act, kv: (R,) codes of number formats, -1 where blank. drafting: methods of speculative decoding. datasets:
    named data sets of lengths, None where `trace` is blank.
    """

    models: Named[ModelSpec]
    devices: Named[Device]
    weight: Index
    kv: Index
    act: Index
    engines: Named[Engine]
    drafting: Named[Speculation]
    datasets: Named[LengthStats | None]


def resolve(cases: Cases, database: Hwdb) -> Resolved:
    """Look up every name of the table.

    Rows with unknown names are refused; of several unknown names, the one looked up first below gives the reason.
    """
    text = cases.text
    models = resolve_names(cases, text["model"], model)
    devices = resolve_names(cases, text["device"], database.device)
    weight = _stated_or_named(_codes(cases, "weight_dtype", _storage_code), models)
    kv = _codes(cases, "kv_dtype", _storage_code)
    act = _codes(cases, "act_dtype", _compute_code)
    keys = text["engine"] + _JOIN + text["engine_version"]
    engines = resolve_names(cases, keys, lambda key: engine_of(*key.split(_JOIN)))
    return Resolved(
        models=models,
        devices=devices,
        weight=weight,
        kv=kv,
        act=act,
        engines=engines,
        drafting=resolve_names(cases, text["spec_decode"], _speculation),
        datasets=resolve_names(cases, text["trace"], lambda name: lengths(name) if name else None),
    )


def resolve_names(cases: Cases, names: Texts, find: Callable[[str], Value]) -> Named[Value]:
    """Look up each distinct name once with `find`; rows whose name it does not know are refused. names: (R,)."""
    distinct, where = np.unique(names.astype(str), return_inverse=True)
    values: list[Value] = []
    index = np.full(len(distinct), -1)
    for i, name in enumerate(distinct.tolist()):
        try:
            values.append(find(name))
            index[i] = len(values) - 1
        except PerfmodelError as problem:
            cases.refuse(where == i, str(problem))
    return Named(values=tuple(values), index=index[where])


def _codes(cases: Cases, column: str, code: Callable[[str], int]) -> Index:
    """Return the codes of the number formats in a column, (R,); -1 where blank. code: gives the code of a name."""
    found = resolve_names(cases, cases.text[column], lambda name: code(name) if name else -1)
    return found.per_row(lambda c: c, -1).astype(np.intp)


def _stated_or_named(weight: Index, models: Named[ModelSpec]) -> Index:
    """Return the codes of weight formats, (R,), with that in the name of the model where the cell is blank (-1)."""
    named = models.per_row(lambda m: FORMAT_CODE[m.named_format] if m.named_format else -1, -1)
    return np.where(weight < 0, named, weight).astype(np.intp)


def _storage_code(name: str) -> int:
    """Return the code of a storage format such as fp8 or int4."""
    return FORMAT_CODE[storage(name).name]


def _compute_code(name: str) -> int:
    """Return the code of an arithmetic type; raise `InputError` for formats that are only stored."""
    kind = storage(name).name
    if kind not in COMPUTE_CODE:
        raise InputError(f"act_dtype {name!r} is no arithmetic type; known are {', '.join(COMPUTE_CODE)}")
    return COMPUTE_CODE[kind]


def _speculation(name: str) -> Speculation:
    """Return the speculative decoding by the method called `name`; no drafting where the cell is blank."""
    if name.removesuffix(SUSPECTED) == "draft-model":
        raise InputError("spec_decode draft-model needs a draft model, which a table of cases does not name")
    return speculation("" if name.lower() in EMPTY else name)
