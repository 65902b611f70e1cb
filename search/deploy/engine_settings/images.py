"""Find the device of a pool and the container image that runs its engine."""

from __future__ import annotations

from typing import Any

from hwdb import Hwdb, InputError, UnknownName, load
from search.deploy.engine_settings.templates import template
from search.deploy.launch import Launch, Pool


def device_record(pool: Pool, hwdb: Hwdb | None = None) -> Any:
    """Return the device of a pool from the hardware database; None where it is not known."""
    try:
        return (hwdb or load()).device(pool.device)
    except UnknownName:
        return None


def image(launch: Launch, pool: Pool) -> str:
    """Return the image of the engine's release for the device of a pool; "" where none is known."""
    return template(launch.engine).image_for(device_record(pool), launch.version)


def needed_image(launch: Launch, pool: Pool) -> str:
    """Return the same for a target of containers; raise `InputError` where no image is known."""
    found = image(launch, pool)
    if not found:
        raise InputError(
            f"export: no container image of {launch.engine} for {pool.device} is known; export to {launch.engine}, "
            "whose commands run without one"
        )
    return found
