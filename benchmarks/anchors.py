"""Published end-to-end figures beside estimates: the ratio of each, and the median |ln ratio| by section.

    python -m benchmarks.anchors [--section NAME] [--file anchors.toml]

The figures are facts with setup and source, in `anchors.toml`, whose head explains its keys; nothing is fitted on them.
Devices that no shop sells are in `anchor_hardware/`, models that no hub has by name in `anchor_models/`. A ratio above
1 means that the estimate is higher than what was published. Rows of trust C are listed and not scored.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import statistics
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cli

HERE = Path(__file__).parent
FILE = HERE / "anchors.toml"
HARDWARE, MODELS = HERE / "anchor_hardware", HERE / "anchor_models"
#: Trust of rows that count for the score.
SCORED = "AB"
#: |ln ratio| that nine in ten rows should keep (chosen: a factor of 1.65).
FAR = 0.5


@dataclass(frozen=True)
class Anchor:
    """Hold one published figure.

    metric: column of `estimate --json`. value: what was published, in the unit of that column, or a ratio of two
    estimates. options: of `estimate`, by name. against: options of the estimate that a ratio is relative to, where they
    differ; empty for a plain figure. per_device: whether the figure is divided by the number of devices. first_ratio:
    the ratio when the row was first scored, NaN where it was not kept.
    """

    id: str
    section: str
    trust: str
    setup: str
    source: str
    metric: str
    value: float
    options: Mapping[str, Any]
    against: Mapping[str, Any] = field(default_factory=dict)
    per_device: bool = False
    first_ratio: float = math.nan


def anchors(path: Path = FILE) -> tuple[Anchor, ...]:
    """Read the rows of an anchor file, in its order."""
    with path.open("rb") as file:
        top = tomllib.load(file)
    return tuple(_anchor(row, top.get("common", {})) for row in top["row"])


def _anchor(row: dict[str, Any], common: Mapping[str, Mapping[str, Any]]) -> Anchor:
    """Return the anchor of one `[[row]]`; common: options that rows share, by name."""
    rest = {k: v for k, v in row.items() if k not in ("estimate", "common")}
    shared = common[row["common"]] if "common" in row else {}
    return Anchor(**rest, options={**shared, **row["estimate"]})


def words(options: Mapping[str, Any]) -> list[str]:
    """Return the command line of `estimate` with these options."""
    flags: list[str] = []
    for name, value in options.items():
        if name != "model" and value is not False:
            flags += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return ["estimate", model_of(str(options["model"])), *flags, "--hwdb", str(HARDWARE), "--json"]


def model_of(name: str) -> str:
    """Return the path of a model of `anchor_models/`, or the name of another one as it is."""
    own = MODELS / name / "config.json"
    return str(own) if own.exists() else name


def figure(anchor: Anchor, options: Mapping[str, Any]) -> float:
    """Return the estimated figure under these options; `ValueError` with the message where `estimate` refuses."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cli.main(words(options))
    if not out.getvalue():
        raise ValueError(f"{anchor.id}: {errors.getvalue().strip()}")
    row = json.loads(out.getvalue())[0]
    value = row.get(anchor.metric)
    if value is None:
        raise ValueError(f"{anchor.id}: estimate has no {anchor.metric}; its columns are {', '.join(row)}")
    return float(value) / (float(row["devices"]) if anchor.per_device else 1.0)


def estimated(anchor: Anchor) -> float:
    """Return what stands beside the published value: an estimated figure, or the ratio of two."""
    first = figure(anchor, anchor.options)
    return first / figure(anchor, {**anchor.options, **anchor.against}) if anchor.against else first


@dataclass(frozen=True)
class Compared:
    """Hold an anchor with its estimated figure."""

    anchor: Anchor
    figure: float

    @property
    def ratio(self) -> float:
        """Return the estimated figure over the published one."""
        return self.figure / self.anchor.value

    @property
    def scored(self) -> bool:
        """Return whether the row counts for the score."""
        return self.anchor.trust in SCORED


def compared(rows: tuple[Anchor, ...]) -> Iterator[Compared]:
    """Yield each anchor with its estimated figure."""
    for anchor in rows:
        yield Compared(anchor, estimated(anchor))


def score(rows: list[Compared]) -> tuple[float, float]:
    """Return (median |ln ratio|, share of rows with at most `FAR`) of the scored rows; NaN without any."""
    return _score([r.ratio for r in rows if r.scored])


def first_score(rows: list[Compared]) -> tuple[float, float]:
    """Return the same of the scored rows as they were first scored, where that was kept: out of sample."""
    return _score([r.anchor.first_ratio for r in rows if r.scored and math.isfinite(r.anchor.first_ratio)])


def _score(ratios: list[float]) -> tuple[float, float]:
    """Return (median |ln ratio|, share of ratios with at most `FAR`); NaN without any."""
    errors = [abs(math.log(ratio)) for ratio in ratios]
    if not errors:
        return math.nan, math.nan
    return statistics.median(errors), sum(e <= FAR for e in errors) / len(errors)


def _line(title: str, rows: list[Compared]) -> str:
    """Return the score of some rows in a line."""
    middle, near = score(rows)
    count = sum(r.scored for r in rows)
    return f"{title}: {count} scored, median |ln ratio| {middle:.2f}, {near:.0%} within a factor of {math.exp(FAR):.2f}"


def main() -> None:
    """Print a line per anchor, then the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--section", default="", help="only the rows of this section")
    parser.add_argument("--file", type=Path, default=FILE, help="file of anchors")
    asked = parser.parse_args()
    every = [a for a in anchors(asked.file) if asked.section in ("", a.section)]
    found: list[Compared] = []
    print(f"{'section':18} {'anchor':32} trust {'metric':14} {'published':>10} {'estimated':>10}  ratio")
    for row in compared(tuple(every)):
        a = row.anchor
        print(
            f"{a.section:18} {a.id:32} {a.trust:5} {a.metric:14} {a.value:10.4g} {row.figure:10.4g}  {row.ratio:5.2f}",
            flush=True,
        )
        found.append(row)
    for section in dict.fromkeys(r.anchor.section for r in found):
        print(_line(section, [r for r in found if r.anchor.section == section]))
    print(_line("all", found))
    middle, near = first_score(found)
    kept = [r for r in found if math.isfinite(r.anchor.first_ratio)]
    print(_line("rows whose first score was kept, today", kept))
    print(
        f"the same when first scored: median |ln ratio| {middle:.2f}, {near:.0%} within a factor of {math.exp(FAR):.2f}"
    )


if __name__ == "__main__":
    main()
