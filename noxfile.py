"""Tests on every supported Python, and with the oldest dependencies that pyproject.toml allows: `nox`."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the tests on one Python."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-m", "not browser", *session.posargs)


@nox.session(python="3.11", venv_backend="uv")
def oldest(session: nox.Session) -> None:
    """Run the tests with the lowest direct dependencies (needs uv)."""
    session.install("-e", ".[dev]", "--resolution", "lowest-direct")
    session.run("pytest", "-m", "not browser and not slow", *session.posargs)
