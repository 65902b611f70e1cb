"""Fill pages of `docs/` that a measurement writes: prose is in `benchmarks/templates`, tables are handed in."""

from __future__ import annotations

from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def filled(page: str, **values: object) -> str:
    """Return the page called `page` ("odds.md") in Markdown, with `values` in the places that its template names.

    Raises `jinja2.UndefinedError` where the template names a value that is not given.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{page}.j2").render(values).rstrip("\n") + "\n"
