"""Prediction of whole tables: a row per serving run (model, device, engine, lengths, load) in, estimates out."""

from __future__ import annotations

from perfmodel.cases.case_groups import Group, Pool, group_load, group_pools, groups_of
from perfmodel.cases.column_spelling import read_columns
from perfmodel.cases.evaluate import aggregated
from perfmodel.cases.evaluate import evaluate as estimate_group
from perfmodel.cases.other_names import column_remarks, unread_columns
from perfmodel.cases.prediction import predict, sensitivities
from perfmodel.cases.read import Cases, cases_of, read_cases
from perfmodel.cases.settings import Settings, settle
from perfmodel.cases.table import KNOWN_SETUP, columns
from perfmodel.cases.write import INTERVALS, OUTPUT

__all__ = [
    "INTERVALS",
    "KNOWN_SETUP",
    "OUTPUT",
    "Cases",
    "Group",
    "Pool",
    "Settings",
    "aggregated",
    "cases_of",
    "column_remarks",
    "columns",
    "estimate_group",
    "group_load",
    "group_pools",
    "groups_of",
    "predict",
    "read_cases",
    "read_columns",
    "sensitivities",
    "settle",
    "unread_columns",
]
