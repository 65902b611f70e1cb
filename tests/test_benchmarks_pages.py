"""Pages whose prose is in templates: every place is filled, and an empty one is an error."""

from __future__ import annotations

import jinja2
import pytest

from benchmarks import odds_tables
from benchmarks.odds import page
from benchmarks.pages import TEMPLATES, filled


def test_every_place_of_the_page_of_odds_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("coverage", "by_load", "reliability", "pairs"):
        monkeypatch.setattr(odds_tables, name, lambda *_, name=name: f"| {name} |\n|---|\n")
    text = page(None, {}, "train")  # type: ignore[arg-type]
    assert "on runs of split `train`" in text
    heads = [
        line for line in text.splitlines() if line in ("| coverage |", "| by_load |", "| reliability |", "| pairs |")
    ]
    assert heads == ["| coverage |", "| by_load |", "| reliability |", "| pairs |"]
    assert text.endswith("| pairs |\n|---|\n")
    assert "{{" not in text


@pytest.mark.parametrize("template", sorted(path.stem for path in TEMPLATES.glob("*.j2")))
def test_a_value_that_is_not_given_is_an_error(template: str) -> None:
    with pytest.raises(jinja2.UndefinedError):
        filled(template)
