"""Open a report in Chromium at several sizes, move every control, and say what is wrong with the page.

    python -m benchmarks.report_pages report.html

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
from pathlib import Path
from typing import Any

from benchmarks.live_report import FLAGS, browser

#: Widths of a desk and a phone, pixels.
DESK, PHONE = 1440, 390
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
    told = re.search(r'<html[^>]*data-report="([^"]*)"', document)
    if told is None:
        return {"found": ["the page did not finish"], "tried": 0, "charts": 0, "live": None}
    answer: dict[str, Any] = json.loads(html.unescape(told[1]))
    return answer


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
    given = parser.parse_args()
    text, wrong = given.page.read_text(encoding="utf-8"), 0
    print(f"{given.page}: {len(text) / 1e6:.2f} MB")
    for width in (DESK, PHONE):
        seen = looked_at(text, width)
        wrong += len(seen["found"])
        print(f"{width} px: {seen['charts']} charts, {seen['tried']} controls tried, {len(seen['found'])} faults")
        for fault in seen["found"]:
            print(f"  {fault}")
    with tempfile.TemporaryDirectory() as folder:
        print(f"A4: {printed(given.page, Path(folder) / 'page.pdf')} sheets")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
