"""Odd arguments from Python are refused with a sentence that names the argument, not with an error of Python's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import hwdb
import perfmodel as pm
import search
from hwdb import InputError
from perfmodel.dtypes import storage

MODEL, DEVICE = "Qwen/Qwen3-8B", "h100-sxm"

ODD: dict[str, tuple[Callable[[], object], str]] = {
    "device": (lambda: hwdb.device(None), "device None is no name"),  # type: ignore[arg-type]
    "list of devices": (lambda: hwdb.device([DEVICE]), "device .* is no name"),  # type: ignore[arg-type]
    "node": (lambda: hwdb.node(8), "node 8 is no name"),  # type: ignore[arg-type]
    "model": (lambda: pm.model(None), "model None is no name"),  # type: ignore[arg-type]
    "bytes": (lambda: pm.model(b"Qwen/Qwen3-8B"), "model b'Qwen/Qwen3-8B' is no name"),  # type: ignore[arg-type]
    "engine": (lambda: pm.engine(3), "engine 3 is no name"),
    "format": (lambda: storage(None), "number format None is no name"),
    "configuration": (lambda: pm.read_config([1]), "config .* is neither a path nor a mapping"),  # type: ignore[arg-type]
    "tokens": (lambda: pm.model(MODEL).kv_bytes(-5), "context -5 is below 0"),
    "cases": (lambda: pm.predict([1, 2]), "cases .* is no table"),  # type: ignore[arg-type]
    "a device for a list": (lambda: pm.deployments(hwdb.device("l4")), "'l4' is no list of devices; give a list"),  # type: ignore[arg-type]
    "a name for a list": (lambda: pm.deployments("l4"), "'l4' is no list of devices; give a list"),  # type: ignore[arg-type]
    "no devices": (lambda: pm.deployments([]), "no device is given"),
    "names of devices": (lambda: pm.deployments([DEVICE]), "'h100-sxm' is no device"),  # type: ignore[list-item]
    "sweep without device": (lambda: search.sweep(MODEL, None), "device None is no device"),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_argument_is_named(odd: str) -> None:
    ask, told = ODD[odd]
    with pytest.raises(InputError, match=told):
        ask()
