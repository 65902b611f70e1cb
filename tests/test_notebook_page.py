"""The page about Python holds what it says: its snippets run in their order."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"


def test_the_snippets_run() -> None:
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(snippets) >= 4
    known: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), known)
    assert len(known["frame"]) == 12  # type: ignore[arg-type]
    assert "per hour" in repr(known["plan"])
