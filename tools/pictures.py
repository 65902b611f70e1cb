"""Make the pictures of the README: `python tools/pictures.py` writes docs/terminal.svg and docs/report.png.

The terminal is `perfmodel plan` on the shipped example, 100 columns wide. The report needs Chromium; without it, its
picture stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
SCENARIO = "examples/chat-70b-h100.toml"
COLUMNS = 100
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def command_output(*arguments: str) -> str:
    """Return what `perfmodel` prints on a terminal of 100 columns, colours included."""
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "cli.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def terminal_picture() -> str:
    """Return the plan of the example as an SVG of a terminal."""
    shell = Console(record=True, width=COLUMNS, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    shell.print(f"$ perfmodel plan {SCENARIO}\n")
    shell.print(Text.from_ansi(command_output("plan", SCENARIO)))
    return shell.export_svg(title="perfmodel")


def report_picture(target: Path) -> bool:
    """Take a screenshot of the top of the report; False where no browser is installed."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command_output("report", SCENARIO, "-o", str(page))
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,900"]
        call = [browser, *flags, "--virtual-time-budget=6000", f"--screenshot={target}", page.as_uri()]
        subprocess.run(call, check=True, capture_output=True)
    return True


def main() -> None:
    """Write both pictures."""
    (ROOT / "docs" / "terminal.svg").write_text(terminal_picture(), encoding="utf-8")
    if not report_picture(ROOT / "docs" / "report.png"):
        print("no browser found: docs/report.png is left as it is")


if __name__ == "__main__":
    main()
