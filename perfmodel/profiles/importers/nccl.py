"""Imports the text output of nccl-tests and rccl-tests (all_reduce_perf and others), also with MPI or Slurm prefixes.

Columns: size (bytes), count, type, redop[, root], then time (us), algbw, busbw and errors out of place, then the same
in place (NVIDIA/nccl-tests doc/PERFORMANCE.md). `size` is the size of the whole vector on each rank: the vector sent
for all-reduce, reduce-scatter and all-to-all, the vector received for all-gather.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hwdb import InputError
from perfmodel.profiles.importers.plain import open_text
from perfmodel.profiles.importers.rows import Rows, rows_of

#: Name of the test program -> operator family.
PROGRAMS = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "sendrecv": "p2p",
}
#: Type name of NCCL -> number format.
TYPES = {
    "float": "fp32",
    "half": "fp16",
    "bfloat16": "bf16",
    "int8": "int8",
    "uint8": "int8",
    "fp8_e4m3": "fp8",
    "f8e4m3": "fp8",
    "f8e5m2": "fp8",
    "fp8_e5m2": "fp8",
}
#: Prefix that mpirun --tag-output or srun --label puts before each line.
PREFIX = re.compile(r"^\s*(?:\[\d+,\d+\]<std(?:out|err)>:|\d+:)\s?")
#: A line of timings; a line of the header that lists a rank; names of the program and of its version.
LINE = re.compile(r"^\s*(\d+)\s+(\d+)\s+([a-z]\w*)\s+([a-z]+)(?:\s+(-?\d+))?((?:\s+(?:[\d.eE+-]+|nan|N/A))+)\s*$")
RANK = re.compile(r"^#\s+Rank\s+(\d+)\b.*?\bon\s+(\S+)\s+device\s+\d+\s+\[[^\]]*\]\s*(.*?)\s*$")
PROGRAM = re.compile(r"\b(all_reduce|all_gather|reduce_scatter|alltoall|sendrecv)_perf\b")
VERSION = re.compile(r"\b([nr]ccl(?:-tests)?:? version:?\s+\S+)", re.IGNORECASE)

MICRO = 1e-6


def read(path: Path, device: str = "", licence: str = "") -> Rows:
    """Read one log: a row with the out-of-place time of each message size. The group is the number of ranks in the
    header.

    Raises `InputError` if the log names no test program or several, lists no ranks, or has no lines of timings.
    """
    with open_text(path) as stream:
        text = [PREFIX.sub("", line.rstrip("\n")) for line in stream]
    ranks = [match for match in map(RANK.match, text) if match]
    if not ranks:
        raise InputError(f"{path}: no '# Rank' lines; is this the output of nccl-tests or rccl-tests?")
    family = _family(text, path)
    found = [match for match in map(LINE.match, text) if match]
    if not found:
        raise InputError(
            f"{path}: no timing lines below the header; did the run fail? Import the log of a complete run"
        )
    group = len({int(match.group(1)) for match in ranks})
    hosts = len({match.group(2) for match in ranks})
    version = next((v.group(1) for v in map(VERSION.search, text) if v), "nccl-tests")
    return rows_of(
        len(found),
        device=device,
        software=version,
        kernel=f"{hosts} node{'s' if hosts > 1 else ''}",
        family=family,
        act=np.array([TYPES.get(match.group(3), match.group(3)) for match in found], dtype=object),
        message_bytes=[float(match.group(1)) for match in found],
        group=float(group),
        time=[_time(match.group(6)) * MICRO for match in found],
        source=path.name,
        licence=licence,
    )


def _time(fields: str) -> float:
    """Return the out-of-place time in us: the first of the `fields` after the type; NaN for N/A."""
    first = fields.split()[0]
    return float("nan") if first == "N/A" else float(first)


def _family(text: list[str], path: Path) -> str:
    """Return the operator family of the test program that the log or its file name mentions.

    text: lines of the log. Raises `InputError` if there is no such name, or several.
    """
    named = {PROGRAMS[name] for line in text for name in PROGRAM.findall(line)}
    named |= {PROGRAMS[name] for name in PROGRAM.findall(path.name)}
    if len(named) == 1:
        return named.pop()
    if named:
        raise InputError(f"{path}: holds several tests ({', '.join(sorted(named))}); split it into one file per test")
    stem = next((family for name, family in PROGRAMS.items() if name in path.name), "")
    if not stem:
        raise InputError(
            f"{path}: neither the log nor its name says which collective this is; put one of "
            f"{', '.join(f'{name}_perf' for name in PROGRAMS)} into the file name"
        )
    return stem
