"""Tell which flag of a command an unknown one means: people type the words of other tools."""

from __future__ import annotations

import re
from collections.abc import Collection

#: Percentile in the name of a flag: "--ttft-p99-ms", "--p99-ttft".
_PERCENTILE = re.compile("p(50|90|95|99)")
#: (table, key) of a scenario that has one value per device -> how it is written.
_KEYED = {("hardware", "usd_per_hour"): "hardware.usd_per_hour.DEVICE"}

#: Flag -> how it is written where its value is not what the other tool's flag takes, or where two flags may be meant.
_WRITTEN = {
    "--on": "--on DEVICE=N",
    "--dp-attention": "--dp-attention (copies of the attention layers alone) or --replicas (of the whole model)",
    "--host-weights": "--host-weights, the share of the weights that is not in device memory",
}
#: Word of other tools -> what takes its place in a command that has the flag beside it.
_IN_PLACE = {
    "model": ("--isl", "MODEL, without a flag: the first word behind the command"),
    "max_model_len": ("--isl", "--isl and --osl: the longest request sets the context"),
    "n_devices": ("--tp", "--tp times --pp times --replicas: their product is the number of devices"),
    "seed": ("--isl", "not needed: the same question has the same answer"),
    "o": ("--csv", "--csv > FILE or --json > FILE"),
}
#: Other words for a word of `_IN_PLACE`.
_ALIKE = {
    "model": ("model_name", "model_id", "model_path", "m", "hf_model"),
    "max_model_len": ("max_seq_len", "context", "context_length", "ctx_size", "num_ctx", "max_length", "context_len"),
    "n_devices": ("gpus", "num_gpus", "n_gpus", "gpu_count", "devices", "n_devices", "world_size"),
    "seed": ("random_seed",),
    "o": ("out", "output", "output_file"),
}
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
    instead = (told for key, (flag, told) in _IN_PLACE.items() if flag in has and word in (key, *_ALIKE[key]))
    engines = (f"--engine-setting {e.name}=VALUE" for e in entries if "[engine]" in e.places)
    settings = engines if "--engine-setting" in has else ()
    whole = (_OF_TABLE[e.name] for e in entries if e.name in _OF_TABLE and "--set" in has)
    found = (
        *(_WRITTEN.get(f, f) for f in own if f in has),
        *instead,
        *(f"--set {key}=VALUE" for key in keys),
        *settings,
        *whole,
    )
    return next(iter(found), "")
