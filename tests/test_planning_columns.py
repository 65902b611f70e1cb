"""Columns of candidates: each is either shown, with an entry in the glossary, or listed as internal with its maker."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hwdb.tomlfile import parse_toml
from perfmodel import glossary
from perfmodel.costs import Roofline
from search import Plan, plan
from search.planning.evaluation.internal_columns import INTERNAL
from search.planning.evaluation.scoring import VERDICTS
from search.scenario.scenario import read_scenario

SCENARIO = """
[model]
name = "meta-llama/Llama-3.1-8B-Instruct"
[workload]
input_tokens = 1000
output_tokens = 200
request_rate_rps = 8
[slo]
ttft_ms_p90 = 2000
tpot_ms = 40
[hardware]
nodes = ["dgx-h100"]
[search]
modes = ["colocated", "disaggregated"]
tp = [1, 2]
pp = [1]
[limits]
rack_kw = 40
"""
#: Internal columns that a row states again, as a word or beside the chances.
RESTATED = {"basis", "slo_ratio"}


@cache
def made() -> Plan:
    return plan(read_scenario(parse_toml(SCENARIO, "test.toml"), Path()), costs=Roofline())


def test_every_column_is_in_the_glossary_or_listed_as_internal() -> None:
    known = {entry.name for entry in glossary.entries() if "column" in entry.places}
    unknown = [name for name in made().columns if name not in INTERNAL and not glossary.parts(name, known)]
    assert not unknown
    assert set(INTERNAL) <= set(made().columns), "columns are listed that no candidate has"


def test_rows_show_no_internal_column() -> None:
    assert not set(made().rows(1)[0]) & (set(INTERNAL) - RESTATED)


@pytest.mark.parametrize("name", sorted(INTERNAL))
def test_the_maker_of_an_internal_column_exists(name: str) -> None:
    *module, last = f"search.{INTERNAL[name].made_by}".split(".")
    if module[-1][0].isupper():  # a method
        holder = getattr(importlib.import_module(".".join(module[:-1])), module[-1])
    else:
        holder = importlib.import_module(".".join(module))
    assert callable(getattr(holder, last))


def test_columns_mean_what_the_list_says() -> None:
    c = made().columns
    assert set(np.unique(c["verdict"])) <= set(range(len(VERDICTS)))
    assert np.array_equal(np.isfinite(c["score"]), c["verdict"] == 0)
    limits = (c["tdp_w"] > 0) & np.isfinite(c["rated_w"])  # whole nodes with known hosts: all devices are billed
    assert limits.any()
    assert np.allclose(c["tdp_w"][limits], c["rated_w"][limits])
    assert (c["host_idle_w"] <= c["host_loaded_w"]).all()
    assert (c["host_loaded_w"] <= c["host_w"]).all()
    assert (c["devices_owned"] == 0).all()
