"""Open a report in Chromium at several sizes, move every control, and say what is wrong with the page.

    python -m benchmarks.report_pages report.html
    python -m benchmarks.report_pages report.html --scenario examples/moe-h200.toml

With the scenario, totals on the page have to equal those of `plan --json`, or of `fleet --json` for a fleet.
It looks at a desk (1440 px), a phone (390 px), dark mode, after a change of size, and on paper: errors of the console,
what is wider than the page, charts that were not drawn or are not described, controls that do nothing, and controls
without a name.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.live_report import FLAGS, browser

#: Widths of a desk and a phone, pixels.
DESK, PHONE = 1440, 390
#: Greatest relative difference that rounding to three digits makes.
ROUNDING = 5e-3
#: Shows the page in a frame of a width, then of another, and reports on it when all is drawn.
FRAME = """<!doctype html><html><body style="margin:0"><iframe id="page" srcdoc="{page}"
style="border:0;width:{width}px;height:900px"></iframe></body></html>"""
#: Looks at the page.
CHECK = Path(__file__).with_name("report_check.js")
#: Runs inside the page: gathers errors, tries every control, and leaves what it finds in the document.
PROBE = """
<script>
window.found = [];
window.addEventListener("error", (event) => found.push("error: " + event.message));
window.addEventListener("unhandledrejection", (event) => found.push("error: " + event.reason));
for (const name of ["error", "warn"]) {
  const kept = console[name];
  console[name] = (...words) => { found.push("console " + name + ": " + words.join(" ")); kept(...words); };
}
</script></head>"""


def looked_at(page: str, width: int) -> dict[str, Any]:
    """Return what is wrong with a page in a frame so many pixels wide: `found`, `tried` controls, `charts`, `live`."""
    probed = page.replace("</head>", PROBE, 1).replace(
        "</body>", f"<script>{CHECK.read_text(encoding='utf-8')}</script></body>", 1
    )
    framed = FRAME.format(page=html.escape(probed, quote=True), width=width)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frame.html"
        file.write_text(framed, encoding="utf-8")
        command = [browser(), *FLAGS, f"--user-data-dir={folder}/own", f"--window-size={max(width, 500)},900"]
        document = subprocess.run(
            [*command, "--dump-dom", file.as_uri()], capture_output=True, text=True, check=True, timeout=180
        ).stdout
    left = re.search(r'<html[^>]*data-report="([^"]*)"', document)
    if left is None:
        return {"found": ["the page did not finish"], "tried": 0, "charts": 0, "live": None}
    answer: dict[str, Any] = json.loads(html.unescape(left[1]))
    return answer


def told(text: str) -> float:
    """Return the first number of a text of the page; NaN where it has none."""
    found = re.search(r"-?\d[\d,]*\.?\d*", text)
    return float(found[0].replace(",", "")) if found else float("nan")


def answered(scenario: Path, *, fleet: bool) -> list[dict[str, Any]]:
    """Return the rows that the tool prints as JSON for a scenario."""
    command = [sys.executable, "-m", "cli", "fleet" if fleet else "plan", str(scenario), "--json"]
    rows: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return rows


def totals_of_plan(seen: Mapping[str, Any], row: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return (where, figure of the page, figure of the JSON) of each total of a plan. row: the best candidate."""
    pairs = [("live: $ per hour", seen["live"]["usd"], row["usd_per_hour"])]
    pairs += [("live: chance", seen["live"]["chance"], row["slo_chance"])] if row["slo_chance"] else []
    facts = {"Cost": "usd_per_hour", "Request": "usd_per_request", "Throughput": "output_tok_s"}
    facts |= {"First token": "ttft_ms", "Each token": "tpot_ms", "Memory": "memory_gb_per_device"}
    pairs += [(label, told(seen["facts"][label]), row[name]) for label, name in facts.items() if label in seen["facts"]]
    pairs += [("Power", told(seen["facts"]["Power"]), row["power_w"] / 1e3)]
    cells = {"$ per hour": "usd_per_hour", "Power W": "power_w", "Devices": "devices", "Power kW": "power_kw"}
    known = {**row, "power_kw": row["power_w"] / 1e3}
    firsts = {
        name: seen["tables"][name][0]
        for name in ("table", "changes", "without", "live-table")
        if seen["tables"].get(name)
    }
    planned = [r for r in seen["tables"].get("growth", []) if r["Load times"] == "1"]
    firsts |= {"growth": planned[0]} if planned else {}
    for table, first in firsts.items():
        pairs += [(f"{table}: {head}", told(first[head]), known[name]) for head, name in cells.items() if head in first]
    return pairs


def totals_of_fleet(seen: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float]]:
    """Return (where, figure of the page, figure of the JSON) of each total of a fleet. rows: options by period."""
    facts = {"Cost": "fleet_usd_per_hour", "Month": "fleet_usd_per_month", "Request": "fleet_usd_per_request"}
    pairs = [
        (label, told(seen["facts"][label]), rows[0][name]) for label, name in facts.items() if label in seen["facts"]
    ]
    if "Power" in seen["facts"]:  # it is not known where options do not state it
        pairs += [("Power", told(seen["facts"]["Power"]), rows[0]["fleet_power_w"] / 1e3)]
    by_period: dict[Any, float] = {}
    for row in rows:
        by_period[row.get("period")] = by_period.get(row.get("period"), 0.0) + row["usd_per_hour"]
    shown = sum(told(row["$ per hour"]) for row in seen["tables"]["options"])
    return [*pairs, ("options: $ per hour, all rows", shown, sum(by_period.values()))]


def unequal(seen: Mapping[str, Any], scenario: Path) -> list[str]:
    """Return what differs between the totals of a page and of the JSON of its scenario."""
    fleet = not seen["live"]
    rows = answered(scenario, fleet=fleet)
    pairs = totals_of_fleet(seen, rows) if fleet else totals_of_plan(seen, rows[0])
    print(f"{len(pairs)} totals compared with the JSON of {scenario}")
    return [
        f"{where}: {page:g} on the page, {tool:g} in the JSON" for where, page, tool in pairs if not near(page, tool)
    ]


def near(page: float, tool: float) -> bool:
    """Return True where a figure of three digits on the page is that of the tool; both unknown count as equal."""
    return abs(page - tool) <= ROUNDING * abs(tool) if page == page and tool == tool else page != page and tool != tool


def printed(page: Path, out: Path) -> int:
    """Print a page to PDF; returns the number of its sheets."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            browser(),
            *FLAGS,
            f"--user-data-dir={folder}/own",
            "--no-pdf-header-footer",
            f"--print-to-pdf={out}",
        ]
        subprocess.run([*command, page.resolve().as_uri()], capture_output=True, check=True, timeout=180)
    return len(re.findall(rb"/Type\s*/Page[^s]", out.read_bytes()))


def main() -> int:
    """Look at a page at both widths, print it, and return 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--scenario", type=Path, help="compare the totals with the JSON of this scenario")
    given = parser.parse_args()
    text, wrong = given.page.read_text(encoding="utf-8"), 0
    print(f"{given.page}: {len(text) / 1e6:.2f} MB")
    for width in (DESK, PHONE):
        seen = looked_at(text, width)
        if given.scenario and width == DESK and "facts" in seen:
            seen["found"] += unequal(seen, given.scenario)
        wrong += len(seen["found"])
        print(f"{width} px: {seen['charts']} charts, {seen['tried']} controls tried, {len(seen['found'])} faults")
        for fault in seen["found"]:
            print(f"  {fault}")
    with tempfile.TemporaryDirectory() as folder:
        print(f"A4: {printed(given.page, Path(folder) / 'page.pdf')} sheets")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
