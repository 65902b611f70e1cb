"""Read parts of YAML or JSON documents whose structure was not validated: a value of the wrong type counts as empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_map(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list; an empty one for anything else."""
    return value if isinstance(value, list) else []


def first_map(value: Any) -> Mapping[str, Any]:
    """Return the first mapping of a list; an empty one without any."""
    return next((one for one in as_list(value) if isinstance(one, Mapping)), {})


def variables_of(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of the environment of a container, name -> text."""
    listed = (one for one in as_list(container.get("env")) if isinstance(one, Mapping))
    return {str(one.get("name")): str(one.get("value", "")) for one in listed}
