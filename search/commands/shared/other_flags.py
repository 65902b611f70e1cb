"""Tell which flag of a command an unknown one means: people type the words of other tools."""

from __future__ import annotations

import re
from collections.abc import Collection

#: Percentile in the name of a flag: "--ttft-p99-ms", "--p99-ttft".
_PERCENTILE = re.compile("p(50|90|95|99)")
#: (table, key) of a scenario that has one value per device -> how it is written.
_KEYED = {("hardware", "usd_per_hour"): "hardware.usd_per_hour.DEVICE"}

#: Flag -> how it is written where its value is not what the other tool's flag takes.
_WRITTEN = {"--on": "--on DEVICE=N"}
#: Flag of other commands that is a table of a scenario -> how it is written.
_OF_TABLE = {"calibration": "--set calibration.file=FILE.toml"}
#: How a number of devices is written where devices are on offer.
_COUNT = "--on DEVICE=N (on hand, of one device) or --set limits.devices=N (at most, in all)"


def meant_by(flag: str, has: Collection[str]) -> str:
    """Return what to type in place of `flag` in a command that has the flags `has`; "" where nothing is known.

    >>> meant_by("--qps", ["--request-rate-rps"]), meant_by("--tp-size", ["--set"]), meant_by("--p99-ttft", ["--slo"])
    ('--request-rate-rps', '--set search.tp=VALUE', '--slo ttft_ms_p99=MS')
    """
    from perfmodel import glossary
    from perfmodel.workload import METRICS, slo_keys_like

    word = glossary.plain(flag)
    if "--slo" in has and _PERCENTILE.search(word) and any(metric in word for metric in METRICS):
        return f"--slo {slo_keys_like(word)[0]}=MS"
    entries = [e for e in glossary.entries() if word in map(glossary.plain, (e.name, *e.others))]
    if "--on" in has and word != "devices" and any(e.name == "n_devices" for e in entries):
        return _COUNT
    own = (f"--{e.name.replace('_', '-')}" for e in entries if "flag" in e.places)
    tables = ((place.strip("[]"), e.name) for e in entries for place in e.places if place.startswith("["))
    keys = (_KEYED.get(key, ".".join(key)) for key in tables if "--set" in has and "fleet" not in key[0])
    whole = (_OF_TABLE[e.name] for e in entries if e.name in _OF_TABLE and "--set" in has)
    found = (*(_WRITTEN.get(f, f) for f in own if f in has), *(f"--set {key}=VALUE" for key in keys), *whole)
    return next(iter(found), "")
