"""Read logs of the power of devices, and give each measured run the watts of its time.

Read are CSV of `nvidia-smi --query-gpu=timestamp,index,power.draw,... --format=csv` (with or without units; the column
is `power.draw [W]`, `power.draw.average [W]` or `power.draw.instant [W]`), text of `dcgmi dmon -e 155` (columns by the
heading `#Entity`, no times; NVIDIA DCGM 3 and 4) and range exports of DCGM's exporter. Times without a zone are taken
as those of one clock.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwdb import InputError
from perfmodel.arrays import Array
from perfmodel.user_calibration.readers import result_content, runs_of
from perfmodel.user_calibration.readers.prometheus import WATTS, is_prometheus, series_of
from perfmodel.user_calibration.run import MeasuredRun
from perfmodel.workload.traces import Content

#: Columns of nvidia-smi, in the order of preference, without units.
DRAWN = ("power.draw.instant", "power.draw", "power.draw.average")
#: Formats of nvidia-smi's times, and of ISO 8601.
STAMPS = ("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")
#: Name of the power column of dcgmi dmon (field 155), and older spelling.
DMON = ("POWER", "POWER_USAGE")
METRIC = "power_w_per_device"
#: Without times, a device is busy from its first to its last sample above the middle of its least and most watts; where
#: the least is so large a share of the most, throughout. Chosen: waiting devices draw under half of busy ones.
STEADY = 0.7


@dataclass(frozen=True)
class PowerLog:
    """Holds samples. path: of the file. device: (n,) which device. time: (n,) seconds, NaN unknown. watts: (n,)."""

    path: str
    device: NDArray[Any]
    time: Array
    watts: Array

    @property
    def span(self) -> tuple[float, float]:
        """Return the times of the first and the last sample; NaN where not known."""
        return float(self.time.min()), float(self.time.max())


def read_power_log(path: str | Path) -> PowerLog | None:
    """Return the samples of a power log, None for a file of another kind. Raises `InputError` where it is damaged."""
    return _log_of(result_content(path))


def read_log_or_results(path: str | Path) -> PowerLog | list[MeasuredRun]:
    """Return the samples of a power log, or the runs of a result. The file is read once, since a pipe ends then.

    Raises `InputError` as `read_results` does.
    """
    content = result_content(path)
    log = _log_of(content)
    return runs_of(content) if log is None else log


def _log_of(content: Content) -> PowerLog | None:
    """Return the samples of a power log, None for content of another kind."""
    if content.kind == "table" and any(_bare(name) in DRAWN for name in content.fields):
        return _nvidia_smi(content)
    if content.head.lower().replace(" ", "").startswith("#entity"):
        return _dmon(content)
    if is_prometheus(content):
        series = series_of(content)
        if series and all(one.name == WATTS for one in series):
            names = np.repeat(
                [f"{s.labels.get('Hostname', '')}{s.labels.get('gpu', '')}" for s in series],
                [len(s.times) for s in series],
            )
            return PowerLog(
                content.path, names, *(np.concatenate([getattr(s, a) for s in series]) for a in ("times", "values"))
            )
    return None


def _bare(name: str) -> str:
    """Return the name of a column without its unit."""
    return name.partition("[")[0].strip()


def _nvidia_smi(content: Content) -> PowerLog:
    """Read CSV of nvidia-smi. A value of a device that tells no watts, `[N/A]`, is left out."""
    names = [_bare(name) for name in content.fields]
    drawn = next(name for name in DRAWN if name in names)
    if "timestamp" not in names:
        raise InputError(f"{content.path}: timestamp is missing; ask --query-gpu=timestamp,index,power.draw")
    device = next((n for n in ("index", "uuid", "pci.bus_id", "gpu_bus_id") if n in names), None)
    rows = []
    for n, cells in enumerate(list(csv.reader(io.StringIO(content.text), skipinitialspace=True))[1:], 2):
        place = f"{content.path}, line {n}"
        if len(cells) < len(names):
            continue  # the last line of a log that was cut off
        row = dict(zip(names, (c.strip() for c in cells), strict=False))
        if row["timestamp"] == "timestamp" or row[drawn].startswith("["):
            continue
        rows.append(
            (row[device] if device else "0", _seconds(row["timestamp"], place), _watts(row[drawn], drawn, place))
        )
    return _log(content.path, rows, drawn)


def _dmon(content: Content) -> PowerLog:
    """Read text of `dcgmi dmon`: a heading, a line of units, and a line per device and turn; headings come again."""
    names: list[str] = []
    rows = []
    for n, line in enumerate(content.text.splitlines(), 1):
        words = line.replace("# Entity", "#Entity").split()
        if words[:1] == ["#Entity"]:
            names = [w.upper() for w in words[1:]]
        elif len(words) == len(names) + 2 and words[0].upper().startswith("GPU"):
            column = next((i for i, name in enumerate(names) if name in DMON), None)
            if column is None:
                raise InputError(f"{content.path}: POWER is missing; ask dcgmi dmon -e 155")
            if words[2 + column] != "N/A":
                place = f"{content.path}, line {n}"
                rows.append((words[1], np.nan, _watts(words[2 + column], "POWER", place)))
    return _log(content.path, rows, "POWER")


def _log(path: str, rows: Sequence[tuple[str, float, float]], column: str) -> PowerLog:
    """Return samples as arrays; `InputError` where there are none."""
    if not rows:
        raise InputError(f"{path}: {column} has no value; give a log of devices that report their power")
    device, time, watts = zip(*rows, strict=True)
    return PowerLog(path, np.array(device, object), np.array(time, float), np.array(watts, float))


def _watts(text: str, column: str, place: str) -> float:
    """Return watts, with or without their unit."""
    try:
        value = float(text.removesuffix("W"))
    except ValueError:
        value = np.nan
    if not 0 <= value < np.inf:
        raise InputError(f"{place}: {column} is {text!r}; give watts")
    return value


def _seconds(text: str, place: str) -> float:
    """Return a time as seconds since 1970, as though it were in UTC; a number is seconds already."""
    for form in STAMPS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{place}: timestamp is {text!r}; give times as nvidia-smi writes them") from None


def with_watts(runs: Sequence[MeasuredRun], logs: Sequence[PowerLog]) -> list[MeasuredRun]:
    """Return the runs with the watts of logs: by time, or of the one run whose time is not known.

    Raises `InputError` for a log that belongs to no run.
    """
    out = list(runs)
    for log in logs:
        timed = [n for n, run in enumerate(out) if run.span and _inside(log, run.span).any()]
        if timed:
            for n in timed:
                out[n] = _given(out[n], log, _inside(log, out[n].span or (0.0, 0.0)))
        elif len(out) == 1 and (out[0].span is None or np.isnan(log.time).any()):
            out[0] = _given(out[0], log, _busy(log))
        else:
            raise InputError(f"{log.path}: {_unmatched(out, log)}")
    return out


def _inside(log: PowerLog, span: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which samples lie within a span, (n,)."""
    return np.asarray((log.time >= span[0]) & (log.time <= span[1]))


def _busy(log: PowerLog) -> NDArray[np.bool_]:
    """Return which samples lie in the time that their device was busy, (n,), where the log alone tells it."""
    busy = np.zeros(len(log.watts), bool)
    for name in dict.fromkeys(log.device):
        mine = np.flatnonzero(log.device == name)
        watts = log.watts[mine]
        least, most = watts.min(), watts.max()
        high = np.flatnonzero(watts >= (least if least > STEADY * most else (least + most) / 2.0))
        busy[mine[high[0] : high[-1] + 1]] = True
    return busy


def _unmatched(runs: Sequence[MeasuredRun], log: PowerLog) -> str:
    """Say why a log belongs to no run."""
    if all(run.span is None for run in runs):
        return f"{len(runs)} runs state no time; give the log with one run, or watts by --watts"
    shown = [datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S") for t in log.span if t == t]
    return f"its time ({' to '.join(shown) or 'not stated'}) is in no run's; give the log of the runs, or --watts"


def _given(run: MeasuredRun, log: PowerLog, inside: NDArray[np.bool_]) -> MeasuredRun:
    """Return a run with the mean watts per device of some samples: of the devices that draw most, as many as it has."""
    names = list(dict.fromkeys(log.device[inside]))
    means = np.sort([log.watts[inside & (log.device == name)].mean() for name in names])[::-1]
    stated = run.given.get("n_devices", "")
    count = int(float(stated)) if stated.replace(".", "", 1).isdigit() else len(means)
    used = means[: max(count, 1)]
    remark = f"watts: mean of {len(used)} of {len(means)} devices in {Path(log.path).name}"
    return replace(run, measured={**run.measured, METRIC: float(used.mean())}, remarks=(*run.remarks, remark))
