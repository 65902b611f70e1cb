"""What the help calls the values of options, and the model that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

COUNT, NAME, SHARE, TOKENS = "N", "NAME", "SHARE", "TOKENS"

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Hugging Face name, or path to a config.json.")]
