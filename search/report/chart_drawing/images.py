"""Write charts as pictures, PNG or SVG, for slides and tickets: drawn by Plotly in a Chromium that is at hand."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hwdb import InputError
from search.output import without_nan

#: Endings of pictures.
PICTURES = ("png", "svg")
#: Width of a picture and its least height, pixels of a slide; PNG has `SCALE` times as many.
WIDTH, LEAST_PICTURE_HEIGHT, SCALE = 960, 420, 2
#: Space above a chart for its title and the legend, pixels.
HEAD = 90
PAPER, INK, LINE = "#ffffff", "#16181d", "#e4e4df"


def write_pictures(charts: Mapping[str, Mapping[str, Any]], folder: Path, form: str) -> list[Path]:
    """Write each chart as `NAME.form` into `folder`, which is made where it does not exist; returns the files.

    charts: figures in plain data by name. form: one of `PICTURES`. Raises `InputError` where Kaleido or a Chromium is
    missing, and where the folder cannot be written.
    """
    if form not in PICTURES:
        raise InputError(f"unknown form {form!r} of a picture; give {' or '.join(PICTURES)}")
    if find_spec("kaleido") is None:
        raise InputError("pictures need Kaleido, which is not installed; run pip install 'perfmodel[images]'")
    import plotly.graph_objects as go
    import plotly.io as pio

    files = [folder / f"{name}.{form}" for name in charts]
    figures = [go.Figure(without_nan(titled(chart))) for chart in charts.values()]
    heights = [max(LEAST_PICTURE_HEIGHT, int(figure.layout.height or 0)) for figure in figures]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {"width": WIDTH, "height": heights, "scale": SCALE if form == "png" else 1}
        pio.write_images(fig=figures, file=[str(file) for file in files], format=form, **sizes)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); give a folder of your own") from error
    except (RuntimeError, ValueError) as error:
        words = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"{folder}: the charts could not be drawn ({words}); install Chromium or Google Chrome, or name one in the "
            "environment variable BROWSER_PATH"
        ) from error
    return files


def titled(chart: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chart of the page with its title inside, and the colours of paper."""
    layout = dict(chart["layout"])
    margin = dict(layout.get("margin", {})) | {"t": HEAD}
    axes = {
        key: dict(value) | {"gridcolor": LINE, "zerolinecolor": LINE} for key, value in layout.items() if "axis" in key
    }
    layout |= {
        **axes,
        "title": {"text": layout["meta"]["title"], "x": 0.02, "xanchor": "left", "font": {"size": 18}},
        "margin": margin,
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "font": {"color": INK, "size": 13},
    }
    return {"data": list(chart["data"]), "layout": layout}
