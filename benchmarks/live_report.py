"""Move the controls of a report at random, and compare what the page answers with what the tool answers.

    python -m benchmarks.live_report examples/chat-70b-h100.toml --settings 50

The page runs in Chromium. Its answer is equal where the best candidate and its cost are those of `search.try_changes`;
elsewhere the page has to say that it is not exact.
"""

from __future__ import annotations

import argparse
import html
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import search
from hwdb import InputError
from search.planning import Plan
from search.report.live_controls.live_data import live_data
from search.report.page_parts.html_page import Page, render
from search.report.plan_page.sections import live_section
from search.whatif.edits import read_edits
from search.whatif.replanning import planned_again
from search.whatif.scenario_file import ScenarioFile

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"),
)
#: Relative difference of a cost that counts as equal: the page holds numbers of seven digits.
SAME_COST = 1e-4
#: Asks the page for each setting, and leaves the answers in the document.
ASK = """
<script>
const asked = {states};
const answers = asked.map((state) => {{
  window.liveSet(state);
  return {{ ...JSON.parse(document.documentElement.dataset.live), command: window.liveCommand() }};
}});
document.documentElement.dataset.answers = JSON.stringify(answers);
</script></body>"""


@dataclass(frozen=True)
class Answer:
    """One setting and its answers. changes: as the tool takes them. doubted: whether the page says it is not exact."""

    changes: tuple[str, ...]
    page: tuple[str | None, float | None]
    tool: tuple[str | None, float | None]
    doubted: bool

    @property
    def equal(self) -> bool:
        """Return True where page and tool name the same candidate at the same cost."""
        return self.page[0] == self.tool[0] and self.same_cost

    @property
    def same_cost(self) -> bool:
        """Return True where page and tool name the same cost, or both that nothing qualifies."""
        usd, cost = self.page[1], self.tool[1]
        return usd is cost if usd is None or cost is None else abs(usd - cost) <= SAME_COST * cost


def settings(data: dict[str, Any], count: int, seed: int) -> list[dict[str, Any]]:
    """Return so many random settings of the controls, as states of the page."""
    rng, found = random.Random(seed), []
    for _ in range(count):
        state: dict[str, Any] = {}
        if data["kind"] in ("open", "closed") and rng.random() < 0.5:
            load = data["load"] * 2 ** rng.uniform(-2, 2)
            state["load"] = float(f"{load:.3g}") if data["kind"] == "open" else max(1, round(load))
        if rng.random() < 0.5:
            state["limits"] = [float(f"{o['limit'] * 2 ** rng.uniform(-1, 1):.3g}") for o in data["objectives"]]
        if rng.random() < 0.3:
            state["confidence"] = round(rng.uniform(0.3, 0.8), 2)
        if rng.random() < 0.5:
            usd = [d["usd_per_hour"] if d["usd_per_hour"] > 0 else 2.0 for d in data["devices"]]
            state["prices"] = [float(f"{u * 2 ** rng.uniform(-1.5, 1.5):.3g}") for u in usd]
        if rng.random() < 0.3:
            state["pue"] = round(rng.uniform(1, 2), 2)
        if len(data["devices"]) > 1 and rng.random() < 0.3:
            offered = [rng.random() < 0.6 for _ in data["devices"]]
            state["offered"] = offered if any(offered) else [True] * len(offered)
        found.append(state)
    return found


def browser() -> str:
    """Return the Chromium at hand; raises `InputError` where there is none."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        raise InputError("no Chromium was found; install one")
    return found


def page_answers(page: str, states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the page answers to each state, with its command. page: HTML of a report."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "asked.html"
        file.write_text(page.replace("</body>", ASK.format(states=json.dumps(states))), encoding="utf-8")
        command = [browser(), *FLAGS, f"--user-data-dir={folder}/own", "--dump-dom", file.as_uri()]
        document = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180).stdout
    found = re.search(r'<html[^>]*data-answers="([^"]*)"', document)
    if found is None:
        raise InputError("the page did not answer; open it in a browser and look at its console")
    answers: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    return answers


def page_without_what_ifs(plan: Plan) -> str:
    """Return the page with its controls alone: what else is on it answers no setting, and takes most of the time."""
    return render(Page("", "", "", True, "", sections=[live_section()], live=live_data(plan)))


def compared(path: Path, plan: Plan, page: str, count: int, seed: int = 0) -> list[Answer]:
    """Return the answers of page and tool to so many random settings.

    page: the report of `plan`, which is that of the file `path`.
    """
    file, out = ScenarioFile(path), []
    for answer in page_answers(page, settings(live_data(plan), count, seed)):
        changes = tuple(part.strip("'") for part in re.findall(r"--set ('[^']*'|\S+)", answer["command"]))
        made = planned_again(plan, file.changed(read_edits(changes))[0]) if changes else plan
        best = made.best if made.feasible else None
        tool = (None, None) if best is None else (made.name(best), float(made.columns["usd_per_hour"][best]))
        out.append(Answer(changes, (answer["best"], answer["usd"]), tool, answer["doubts"] > 0))
    return out


def main() -> int:
    """Compare, print the differences and how many there are; return 1 where one of them is not marked on the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--settings", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    plan = search.plan(search.load_scenario(given.scenario))
    found = compared(given.scenario, plan, page_without_what_ifs(plan), given.settings, given.seed)
    differing = [answer for answer in found if not answer.equal]
    for answer in differing:
        print(f"{'marked' if answer.doubted else 'NOT MARKED'}: {answer.changes}: {answer.page} against {answer.tool}")
    unmarked = sum(not answer.doubted for answer in differing)
    print(
        f"{given.scenario}: {len(found) - len(differing)} of {len(found)} equal, "
        f"{len(differing) - unmarked} marked on the page, {unmarked} not; "
        f"{sum(a.doubted for a in found)} settings are marked in all"
    )
    return 1 if unmarked else 0


if __name__ == "__main__":
    sys.exit(main())
